// Command bare is what Purser is measured against: net/http's own multiplexer, and
// one Write of a fixed body with preset headers.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
)

func main() {
	if err := serve(os.Args[1], []byte(os.Args[2])); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func serve(path string, given []byte) error {
	var answer struct {
		Header http.Header
		Body   string
	}
	if err := json.Unmarshal(given, &answer); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	body := []byte(answer.Body)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), answer.Header)
		_, _ = w.Write(body)
	})
	return http.Serve(l, mux)
}
