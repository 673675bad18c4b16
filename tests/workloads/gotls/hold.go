package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
)

// Connections on which a request is under way at once.
const width = 64

// Holds many connections open, and asks once on each of them in every round: the first opens them, and the
// next begins when it is over.
func hold(config *tls.Config, address string, connections, rounds int) {
	target, err := url.Parse(address)
	fail(err)
	held := make([]*tls.Conn, connections)
	for round := 0; round < rounds; round++ {
		each(connections, func(i int) {
			if round == 0 {
				connection, err := tls.Dial("tcp", target.Host, config)
				fail(err)
				held[i] = connection
			}
			askOn(held[i], target)
		})
		fmt.Println("round", round+1)
	}
	for _, connection := range held {
		connection.Close()
	}
}

// Does something with every number below count, with width of them at once.
func each(count int, do func(int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range make([]struct{}, width) {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				do(i)
			}
		}()
	}
	all.Wait()
}

func askOn(connection *tls.Conn, target *url.URL) {
	_, err := fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", target.Path, target.Host)
	fail(err)
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	fail(err)
	got, err := io.Copy(io.Discard, answer.Body)
	fail(err)
	if answer.StatusCode != 200 || got != size {
		fail(fmt.Errorf("%s: %d, %d bytes", target, answer.StatusCode, got))
	}
}
