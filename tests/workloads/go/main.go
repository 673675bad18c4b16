// One of a chain of services in Go: answers /NAME/RID…, calling others on the way from goroutines of
// its own through net/http's pool of kept connections, while a timer calls out beside them.
//
// Logs `served` and `called` (with what was being served, null for the timer). A call that a handler
// leaves behind is logged as optional: it has the request that it was left by as parent, or none.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

type fact map[string]any

type service struct {
	name  string
	mode  string
	calls []string
	log   *os.File
	jobs  chan job
}

type job struct {
	serving, called, url string
	done                 chan struct{}
}

var client = &http.Client{
	Timeout: 30 * time.Second,
	// With a configuration of its own it does not speak HTTP/2.
	Transport: &http.Transport{
		MaxIdleConnsPerHost: 256,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
	},
}

var scheme = "http"

// One line a fact, each written by one call.
func (s *service) line(fact fact) {
	text, err := json.Marshal(fact)
	fail(err)
	_, err = s.log.Write(append(text, '\n'))
	fail(err)
}

func (s *service) get(serving any, path, port string, optional bool) {
	s.line(fact{"serving": serving, "called": path, "optional": optional})
	fetch(scheme + "://127.0.0.1:" + port + path)
}

func fetch(url string) {
	answer, err := client.Get(url)
	fail(err)
	_, err = io.Copy(io.Discard, answer.Body)
	fail(err)
	answer.Body.Close()
	if answer.StatusCode != 200 {
		fail(fmt.Errorf("%s: %d", url, answer.StatusCode))
	}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(r.URL.Path, "/", 4)
	edge := ""
	if len(parts) > 3 {
		edge = parts[3] + "."
	}
	time.Sleep(time.Duration(rand.Intn(2000)) * time.Microsecond)
	target := func(index int) (string, string) {
		name, port, _ := strings.Cut(s.calls[index], ":")
		return fmt.Sprintf("/%s/%s/%s%d", name, parts[2], edge, index), port
	}
	switch s.mode {
	case "handler":
		for index := range s.calls {
			path, port := target(index)
			s.get(r.URL.Path, path, port, false)
		}
	case "pool":
		for index := range s.calls {
			path, port := target(index)
			job := job{r.URL.Path, path, scheme + "://127.0.0.1:" + port + path, make(chan struct{})}
			s.jobs <- job
			<-job.done
		}
	default:
		s.fanOut(r.URL.Path, target)
	}
	s.line(fact{"served": r.URL.Path})
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, "ok\n")
}

// All calls at once, each from a goroutine of its own; the last from one that another one made, which
// has called before. A further goroutine is left behind.
func (s *service) fanOut(serving string, target func(int) (string, string)) {
	var all sync.WaitGroup
	for index := range s.calls {
		path, port := target(index)
		all.Add(1)
		go func(index int) {
			defer all.Done()
			if rand.Intn(2) == 0 {
				time.Sleep(time.Duration(rand.Intn(1000)) * time.Microsecond)
			}
			s.get(serving, path, port, false)
			if index == len(s.calls)-1 {
				all.Add(1)
				go func() {
					defer all.Done()
					s.get(serving, path+"n", port, false)
				}()
			}
		}(index)
	}
	if len(s.calls) > 0 && rand.Intn(4) == 0 {
		path, port := target(0)
		go func() {
			time.Sleep(time.Duration(rand.Intn(6000)) * time.Microsecond)
			s.get(serving, path+"left", port, true)
		}()
	}
	all.Wait()
}

func (s *service) work() {
	for job := range s.jobs {
		s.line(fact{"serving": job.serving, "called": job.called})
		fetch(job.url)
		close(job.done)
	}
}

func (s *service) tick(every time.Duration) {
	for number := 0; ; number++ {
		time.Sleep(every)
		name, port, _ := strings.Cut(s.calls[number%len(s.calls)], ":")
		s.get(nil, fmt.Sprintf("/%s/timer-%s-%d/t", name, s.name, number), port, false)
	}
}

func main() {
	log := flag.String("log", "", "file")
	name := flag.String("name", "", "of the service")
	port := flag.Int("port", 0, "to listen on")
	mode := flag.String("mode", "goroutines", "goroutines, handler, pool: who calls")
	certificate := flag.String("certificate", "", "file; without it, no TLS, here and where it calls")
	key := flag.String("key", "", "file")
	every := flag.Duration("timer", 0, "time between own calls")
	s := &service{jobs: make(chan job)}
	flag.Func("call", "NAME:PORT", func(call string) error {
		s.calls = append(s.calls, call)
		return nil
	})
	flag.Parse()
	file, err := os.OpenFile(*log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	fail(err)
	s.name, s.mode, s.log = *name, *mode, file
	if *certificate != "" {
		scheme = "https"
	}
	for worker := 0; worker < 8; worker++ {
		go s.work()
	}
	if *every > 0 {
		go s.tick(*every)
	}
	fmt.Println("ready")
	server := &http.Server{
		Addr:         fmt.Sprintf("127.0.0.1:%d", *port),
		Handler:      s,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	if *certificate != "" {
		fail(server.ListenAndServeTLS(*certificate, *key))
	}
	fail(server.ListenAndServe())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
