// Reads requests with Go's net/http, as kube-apiserver does, and says in X-Read what it has read.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

var fields = []string{"Impersonate-User", "Impersonate-Group", "Accept", "Content-Type", "X-Mark"}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		read := fmt.Sprintf("%s %s %x", r.Method, r.RequestURI, sha256.Sum256(body))
		for _, name := range fields {
			read += fmt.Sprintf(" %x", strings.Join(r.Header[name], ","))
		}
		w.Header().Set("X-Read", read)
		w.Header().Set("Content-Length", "0")
	}))
}
