// Command fakekubelet serves the streaming half of a kubelet (exec, attach, port-forward, logs) for pods that are
// folders of this machine. Something else, kwok in these tests, keeps the status of the node and its pods.
//
// DIR/NAMESPACE/POD/CONTAINER is a container's working folder, with ".log" behind it the container's log in CRI format.
// A port of a pod is the port of that number on 127.0.0.1.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

const (
	idleTimeout   = 4 * time.Hour // as a kubelet's --streaming-connection-idle-timeout
	createTimeout = 30 * time.Second
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` of the kubelet API")
	cert := flag.String("cert", "", "certificate `file` of the kubelet API")
	key := flag.String("key", "", "key `file` of the kubelet API")
	root := flag.String("root", "", "`folder` of the pods")
	attach := flag.String("attach", "cat", "shell `command` that an attach talks to")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	containers := &containers{root: *root, attach: *attach}
	server := &http.Server{
		Addr:        *listen,
		Handler:     logged(routes(containers)),
		BaseContext: func(net.Listener) context.Context { return ctx }, // a signal ends every command
		Protocols:   new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true) // an upgrade needs HTTP/1.1
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServeTLS(*cert, *key); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	containers.running.Wait()
}

// routes are the paths that kube-apiserver asks a kubelet for.
func routes(c *containers) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if o, ok := remoteOptions(w, r); ok {
			remotecommand.ServeExec(w, r, c, podOf(r), "", r.PathValue("container"), r.URL.Query()["command"], o,
				idleTimeout, createTimeout, remotecommand.SupportedStreamingProtocols)
		}
	})
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if o, ok := remoteOptions(w, r); ok {
			remotecommand.ServeAttach(w, r, c, podOf(r), "", r.PathValue("container"), o,
				idleTimeout, createTimeout, remotecommand.SupportedStreamingProtocols)
		}
	})
	mux.HandleFunc("/portForward/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		o, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, c, podOf(r), "", o, idleTimeout, createTimeout, portforward.SupportedProtocols)
	})
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", c.serveLogs)
	return mux
}

// podOf is the name under which the streaming package hands a pod on: NAMESPACE/POD.
func podOf(r *http.Request) string { return r.PathValue("namespace") + "/" + r.PathValue("pod") }

func remoteOptions(w http.ResponseWriter, r *http.Request) (*remotecommand.Options, bool) {
	o, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return o, err == nil
}

func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s upgrade=%q", r.Method, r.URL.Path, r.Header.Get("Upgrade"))
		next.ServeHTTP(w, r)
		log.Printf("ended %s %s", r.Method, r.URL.Path)
	})
}
