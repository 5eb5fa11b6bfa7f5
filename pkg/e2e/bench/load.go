package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// clients is how many ask at the same time.
const clients = 8

// A target is a request to one server.
type target struct {
	address string
	request []byte
}

func newTarget(address, path, token string) target {
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nX-aws-ec2-metadata-token: %s\r\nUser-Agent: bench\r\n\r\n", path, address, token)
	return target{address, []byte(request)}
}

// A sample is what one round of load showed.
type sample struct {
	perSecond float64
	p99       time.Duration
}

// load asks from all clients for a while. With reconnect, each request has a
// connection of its own.
func load(t target, reconnect bool, span time.Duration) (sample, error) {
	var (
		mu    sync.Mutex // guards took and first
		took  []time.Duration
		first error
		group sync.WaitGroup
	)
	begin := time.Now()
	for range clients {
		group.Go(func() {
			mine, err := ask(t, reconnect, begin.Add(span))
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if first == nil {
				first = err
			}
		})
	}
	group.Wait()
	elapsed := time.Since(begin)
	if first != nil {
		return sample{}, first
	}
	slices.Sort(took)
	return sample{float64(len(took)) / elapsed.Seconds(), took[len(took)*99/100]}, nil
}

// ask is one client.
func ask(t target, reconnect bool, until time.Time) (took []time.Duration, err error) {
	var conn *net.TCPConn
	var in *bufio.Reader
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for begin := time.Now(); begin.Before(until); begin = time.Now() {
		if conn == nil {
			dialled, err := net.Dial("tcp", t.address)
			if err != nil {
				return nil, err
			}
			conn, in = dialled.(*net.TCPConn), bufio.NewReader(dialled)
		}
		if _, err := conn.Write(t.request); err != nil {
			return nil, err
		}
		if err := readAnswer(in); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
		if reconnect {
			// Otherwise the ports run out in TIME_WAIT.
			_ = conn.SetLinger(0)
			_ = conn.Close()
			conn = nil
		}
	}
	return took, nil
}

// readAnswer reads one response with a Content-Length, and is strict about its code.
func readAnswer(in *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answer %q", line)
		}
		if len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	_, err := io.CopyN(io.Discard, in, int64(length))
	return err
}

// rounds is how often each side of a comparison is loaded, after one to warm up.
const rounds = 7

// compare loads both targets in turn and returns the medians of a's share of b.
func compare(a, b target, reconnect bool) (throughput, p99 float64, median sample, err error) {
	var rates, tails []float64
	var ours []sample
	for i := range rounds + 1 {
		x, err := load(a, reconnect, 2*time.Second)
		if err != nil {
			return 0, 0, sample{}, err
		}
		y, err := load(b, reconnect, 2*time.Second)
		if err != nil {
			return 0, 0, sample{}, err
		}
		if i > 0 {
			rates = append(rates, x.perSecond/y.perSecond)
			tails = append(tails, float64(x.p99)/float64(y.p99))
			ours = append(ours, x)
		}
	}
	slices.Sort(rates)
	slices.Sort(tails)
	slices.SortFunc(ours, func(x, y sample) int { return int(x.perSecond - y.perSecond) })
	return rates[rounds/2], tails[rounds/2], ours[rounds/2], nil
}
