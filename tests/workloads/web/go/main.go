// net/http both ways. `web serve PORT`: GET /…/size/N answers N bytes, POST what it got, else 404. `web ask REQUESTS
// CONCURRENCY PACE_MS URL…`: so many of each URL by so many goroutines; with a pace, one after the other, each so long
// after the one before began, and how long each took is printed, in ms.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

var size = regexp.MustCompile(`/size/(\d+)$`)

func answer(w http.ResponseWriter, r *http.Request) {
	found := size.FindStringSubmatch(r.URL.Path)
	switch {
	case r.Method == http.MethodPost:
		_, _ = io.Copy(w, r.Body)
	case found != nil:
		count, _ := strconv.Atoi(found[1])
		w.Header().Set("Content-Length", found[1])
		_, _ = io.WriteString(w, strings.Repeat("x", count))
	default:
		http.NotFound(w, r)
	}
}

func once(url string) {
	response, err := http.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		log.Fatal(url, response.Status)
	}
}

func paced(url string, requests int, pace time.Duration) {
	due := time.Now()
	for i := 0; i < requests; i++ {
		due = due.Add(pace)
		time.Sleep(time.Until(due))
		begin := time.Now()
		once(url)
		fmt.Println(float64(time.Since(begin).Microseconds()) / 1000)
	}
}

func wide(url string, requests, width int) {
	var all sync.WaitGroup
	work := make(chan struct{}, requests)
	for i := 0; i < requests; i++ {
		work <- struct{}{}
	}
	close(work)
	for i := 0; i < width; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for range work {
				once(url)
			}
		}()
	}
	all.Wait()
}

func main() {
	words := os.Args[1:]
	if words[0] == "serve" {
		log.Fatal(http.ListenAndServe("0.0.0.0:"+words[1], http.HandlerFunc(answer)))
	}
	requests, _ := strconv.Atoi(words[1])
	width, _ := strconv.Atoi(words[2])
	pace, _ := strconv.Atoi(words[3])
	for _, url := range words[4:] {
		if pace > 0 {
			paced(url, requests, time.Duration(pace)*time.Millisecond)
		} else {
			wide(url, requests, width)
		}
	}
}
