// Many of chisel's clients in one process, for the benchmark, each as chisel's own program starts one: every
// argument is what one of them asks the server for, `R:host:port:host:port`.
package main

import (
	"context"
	"flag"
	"log"
	"time"

	"argotun/bench/cables"

	client "github.com/jpillora/chisel/client"
)

func main() {
	server := flag.String("server", "", "URL")
	auth := flag.String("auth", "", "user:password")
	ca := flag.String("tls-ca", "", "PEM file")
	cert := flag.String("tls-cert", "", "PEM file")
	key := flag.String("tls-key", "", "PEM file")
	flag.Parse()
	all := &cables.All{}
	for _, remote := range flag.Args() {
		// Where to dial apart, these are the defaults of chisel's program, which the library has not.
		each, err := client.NewClient(&client.Config{
			Server:        *server,
			Auth:          *auth,
			TLS:           client.TLSConfig{CA: *ca, Cert: *cert, Key: *key},
			KeepAlive:     25 * time.Second,
			MaxRetryCount: -1,
			DialContext:   all.Dial,
			Remotes:       []string{remote},
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := each.Start(context.Background()); err != nil {
			log.Fatal(err)
		}
	}
	all.CutOnSignal()
}
