// A server and an agent of Rancher's remotedialer, for the benchmark: the server proxies HTTP to the API
// through the tunnel as Rancher does, the agent dials what the server names.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rancher/remotedialer"
	"github.com/sirupsen/logrus"
)

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
	peers := remotedialer.New(func(*http.Request) (string, bool, error) {
		return cluster, true, nil
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
	log.Fatal((&http.Server{Addr: internal, Handler: proxy}).ListenAndServe())
}

func connect(tunnel string, config *tls.Config) {
	dialer := &websocket.Dialer{TLSClientConfig: config}
	anything := func(string, string) bool { return true }
	for {
		err := remotedialer.ConnectToProxy(context.Background(), "wss://"+tunnel, nil, anything, dialer, nil)
		if errors.Is(err, context.Canceled) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("server or agent?")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	tunnel := flags.String("tunnel", "", "host:port where agents come in")
	internal := flags.String("internal", "", "host:port where clients come in")
	api := flags.String("api", "", "host:port of the API, with TLS")
	ca := flags.String("ca", "", "PEM file")
	cert := flags.String("cert", "", "PEM file")
	key := flags.String("key", "", "PEM file")
	_ = flags.Parse(os.Args[2:])
	logrus.SetLevel(logrus.WarnLevel)
	config := tlsConfig(*ca, *cert, *key)
	if os.Args[1] == "server" {
		serve(*tunnel, *internal, *api, config)
	} else {
		connect(*tunnel, config)
	}
}
