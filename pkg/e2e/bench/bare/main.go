// Command bare is what Purser is measured against: net/http's own multiplexer and
// one Write of fixed bytes with preset headers.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	path, body := os.Args[1], []byte(os.Args[2])
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	text, length, name := []string{"text/plain"}, []string{fmt.Sprint(len(body))}, []string{"EC2ws"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"], h["Content-Length"], h["Server"] = text, length, name
		_, _ = w.Write(body)
	})
	fmt.Fprintln(os.Stderr, "bare:", http.Serve(l, mux))
	os.Exit(1)
}
