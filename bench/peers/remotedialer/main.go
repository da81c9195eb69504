// A server and an agent of Rancher's remotedialer, for the benchmark: the server proxies HTTP to the API
// through the tunnel as Rancher does, the agent dials what the server names. `agents` is many in one process.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"argotun/bench/cables"

	"github.com/gorilla/websocket"
	"github.com/rancher/remotedialer"
	"github.com/sirupsen/logrus"
)

// cluster is whose requests the server proxies: that of the one agent.
const cluster = "bench"

// tlsConfig is for both roles: who listens asks for a certificate of the same authority.
func tlsConfig(ca, cert, key string) *tls.Config {
	authority, err := os.ReadFile(ca)
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		log.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
}

func serve(tunnel, internal, api string, config *tls.Config) {
	// An agent says by its path whose it is.
	peers := remotedialer.New(func(request *http.Request) (string, bool, error) {
		return strings.TrimPrefix(request.URL.Path, "/"), true, nil
	}, remotedialer.DefaultErrorWriter)
	public := &http.Server{Addr: tunnel, Handler: peers, TLSConfig: config}
	go func() { log.Fatal(public.ListenAndServeTLS("", "")) }()

	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: api})
	proxy.Transport = &http.Transport{
		DialContext:         peers.Dialer(cluster),
		TLSClientConfig:     &tls.Config{RootCAs: config.RootCAs},
		MaxIdleConnsPerHost: 256,
	}
	// A watch's events must not wait for a buffer to fill.
	proxy.FlushInterval = -1
	handler := func(writer http.ResponseWriter, request *http.Request) {
		if request.URL.Path == "/-/agents" {
			fmt.Fprintln(writer, len(peers.ListClients()))
			return
		}
		proxy.ServeHTTP(writer, request)
	}
	log.Fatal((&http.Server{Addr: internal, Handler: http.HandlerFunc(handler)}).ListenAndServe())
}

// connect is one agent, for ever; it pauses for as long after each connection that it lost or did not get.
func connect(tunnel, name string, dialer *websocket.Dialer) {
	anything := func(string, string) bool { return true }
	url := "wss://" + tunnel + "/" + name
	for {
		err := remotedialer.ConnectToProxy(context.Background(), url, nil, anything, dialer, nil)
		if errors.Is(err, context.Canceled) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func connectMany(tunnel string, count int, config *tls.Config) {
	all := &cables.All{}
	for number := range count {
		dialer := &websocket.Dialer{TLSClientConfig: config, NetDialContext: all.Dial}
		go connect(tunnel, fmt.Sprintf("c%d", number+1), dialer)
	}
	all.CutOnSignal()
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("server, agent or agents?")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	tunnel := flags.String("tunnel", "", "host:port where agents come in")
	internal := flags.String("internal", "", "host:port where clients come in")
	api := flags.String("api", "", "host:port of the API, with TLS")
	ca := flags.String("ca", "", "PEM file")
	cert := flags.String("cert", "", "PEM file")
	key := flags.String("key", "", "PEM file")
	count := flags.Int("count", 1, "how many agents")
	_ = flags.Parse(os.Args[2:])
	logrus.SetLevel(logrus.WarnLevel)
	config := tlsConfig(*ca, *cert, *key)
	switch os.Args[1] {
	case "server":
		serve(*tunnel, *internal, *api, config)
	case "agent":
		connect(*tunnel, cluster, &websocket.Dialer{TLSClientConfig: config})
	case "agents":
		connectMany(*tunnel, *count, config)
	default:
		log.Fatalf("%s is none of server, agent, agents", os.Args[1])
	}
}
