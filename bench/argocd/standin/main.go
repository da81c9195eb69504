// Many Kubernetes APIs in one process, for the benchmark of Argo CD: each address of loopback is a cluster.
//
// It keeps objects in memory, allows everything and runs nothing. What Argo CD needs of an API is there:
// discovery, lists, watches that never end by themselves and have a bookmark each minute, and writes as
// kubectl's client-side apply sends them. HTTP/2 has 100 streams on a connection, as kube-apiserver's.
//
// At -control, in plain HTTP, it says for each cluster how often what was asked, and what is open.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"time"
)

func main() {
	addr := flag.String("addr", "", "host:port of the APIs, on every address")
	control := flag.String("control", "", "host:port where the counts are told")
	cert := flag.String("cert", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	count := flag.Int("kinds", len(kinds), "how many kinds each API has")
	flag.Parse()

	apis := newClusters(kinds[:min(*count, len(kinds))])
	go func() {
		counts := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(apis.counts())
		})
		log.Fatal(http.ListenAndServe(*control, counts))
	}()
	server := &http.Server{
		Addr:              *addr,
		Handler:           apis,
		ReadHeaderTimeout: 30 * time.Second,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
		// Connections that end in the middle are what is measured here, and nothing to tell of.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	log.Fatal(server.ListenAndServeTLS(*cert, *key))
}
