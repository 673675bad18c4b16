// HTTP/1.1 with or without TLS. `serve` answers each path with 700 bytes; `ask` requests one URL, from as
// many goroutines as asked for, each of which keeps its connection, and stops half-way until a file is
// there; `mix` asks from goroutines that share connections; with rounds, see hold.go.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const size = 700

func main() {
	port := flag.String("port", "0", "to listen on")
	certificate := flag.String("certificate", "", "file; without it, no TLS")
	key := flag.String("key", "", "file")
	url := flag.String("url", "", "to ask for")
	requests := flag.Int64("requests", 1, "to send")
	concurrency := flag.Int("concurrency", 1, "goroutines")
	shared := flag.Bool("shared", false, "connections are handed from goroutine to goroutine")
	version := flag.String("version", "", "1.2: nothing newer")
	rounds := flag.Int("rounds", 0, "requests on each connection, of which so many as `concurrency` are held")
	wait := flag.Duration("wait", 0, "before the first")
	pauseAt := flag.Int64("pause-at", -1, "requests before the pause")
	pauseFor := flag.String("pause-for", "", "file that ends it")
	flag.Parse()
	if *url == "" {
		serve("127.0.0.1:"+*port, *certificate, *key)
		return
	}
	time.Sleep(*wait)
	config := &tls.Config{InsecureSkipVerify: true}
	if *version == "1.2" {
		config.MaxVersion = tls.VersionTLS12
	}
	if *rounds > 0 {
		hold(config, *url, *concurrency, *rounds)
		return
	}
	var left, done atomic.Int64
	left.Store(*requests)
	pool := client(config, *concurrency)
	var all sync.WaitGroup
	for range make([]struct{}, *concurrency) {
		all.Add(1)
		go func() {
			defer all.Done()
			own := pool
			if !*shared {
				own = client(config, 1)
			}
			for left.Add(-1) >= 0 {
				ask(own, *url)
				if *pauseAt < 0 {
					continue
				}
				fmt.Println("asked")
				for done.Add(1); done.Load() >= *pauseAt && !exists(*pauseFor); {
					time.Sleep(5 * time.Millisecond)
				}
			}
		}()
	}
	all.Wait()
}

func client(config *tls.Config, connections int) *http.Client {
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: connections}
	return &http.Client{Timeout: 30 * time.Second, Transport: transport}
}

func ask(client *http.Client, url string) {
	answer, err := client.Get(url)
	fail(err)
	got, err := io.Copy(io.Discard, answer.Body)
	fail(err)
	answer.Body.Close()
	if answer.StatusCode != 200 || got != size {
		fail(fmt.Errorf("%s: %d, %d bytes", url, answer.StatusCode, got))
	}
}

func serve(address, certificate, key string) {
	page := strings.Repeat("x", size)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			io.WriteString(w, page)
		}),
		// No HTTP/2.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		// Of clients that leave in the middle.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	listener, err := net.Listen("tcp", address)
	fail(err)
	fmt.Println("ready")
	if certificate == "" {
		fail(server.Serve(listener))
	}
	fail(server.ServeTLS(listener, certificate, key))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
