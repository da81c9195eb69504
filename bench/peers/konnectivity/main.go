// Both ends of Kubernetes' konnectivity as their own programs start them, and a front for clients that do
// not speak HTTP CONNECT: each connection to it becomes one CONNECT to the API at the server's Unix socket.
// `agents` is many agents in one process.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"argotun/bench/cables"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	agent "sigs.k8s.io/apiserver-network-proxy/cmd/agent/app"
	agentoptions "sigs.k8s.io/apiserver-network-proxy/cmd/agent/app/options"
	server "sigs.k8s.io/apiserver-network-proxy/cmd/server/app"
	serveroptions "sigs.k8s.io/apiserver-network-proxy/cmd/server/app/options"
	"sigs.k8s.io/apiserver-network-proxy/pkg/util"
)

func run(command *cobra.Command, arguments []string) {
	command.SetArgs(arguments)
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}

// carry asks for a connection to the API and copies both ways until either side has ended.
func carry(client net.Conn, proxy, api string) {
	defer client.Close()
	through, err := net.Dial("unix", proxy)
	if err != nil {
		log.Print(err)
		return
	}
	defer through.Close()
	fmt.Fprintf(through, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", api, api)
	answers := bufio.NewReader(through)
	answer, err := http.ReadResponse(answers, &http.Request{Method: http.MethodConnect})
	if err != nil || answer.StatusCode != http.StatusOK {
		log.Printf("CONNECT: %v %v", answer, err)
		return
	}
	if _, err := io.CopyN(client, answers, int64(answers.Buffered())); err != nil {
		return
	}
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, through}, {through, client}} {
		go func() {
			io.Copy(way[0], way[1])
			ended <- struct{}{}
		}()
	}
	<-ended
}

func front(arguments []string) {
	flags := flag.NewFlagSet("front", flag.ExitOnError)
	listen := flags.String("listen", "", "where clients come, host:port")
	proxy := flags.String("proxy", "", "the server's Unix socket")
	api := flags.String("api", "", "where the agent is to connect, host:port")
	flags.Parse(arguments)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go carry(client, *proxy, *api)
	}
}

// agents are as many as are asked for, each what konnectivity's own program makes of the same options.
func agents(arguments []string) {
	options := agentoptions.NewGrpcProxyAgentOptions()
	flags := options.Flags()
	count := flags.Int("count", 1, "how many agents")
	if err := flags.Parse(arguments); err != nil {
		log.Fatal(err)
	}
	config, err := util.GetClientTLSConfig(
		options.CaCert, options.AgentCert, options.AgentKey, options.ProxyServerHost, options.AlpnProtos)
	if err != nil {
		log.Fatal(err)
	}
	all := &cables.All{}
	never := make(chan struct{})
	for number := range *count {
		each := options.ClientSetConfig(
			grpc.WithTransportCredentials(credentials.NewTLS(config)),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{
				Time:                options.KeepaliveTime,
				PermitWithoutStream: true,
			}),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				return all.Dial(ctx, "tcp", address)
			}),
		)
		each.AgentID = fmt.Sprintf("c%d", number+1)
		each.NewAgentClientSet(never, never).Serve()
	}
	all.CutOnSignal()
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: server|agent|agents|front OPTIONS")
	}
	arguments := os.Args[2:]
	switch os.Args[1] {
	case "server":
		options := serveroptions.NewProxyRunOptions()
		command := server.NewProxyCommand(&server.Proxy{}, options)
		command.Flags().AddFlagSet(options.Flags())
		run(command, arguments)
	case "agent":
		options := agentoptions.NewGrpcProxyAgentOptions()
		command := agent.NewAgentCommand(&agent.Agent{}, options)
		command.Flags().AddFlagSet(options.Flags())
		run(command, arguments)
	case "agents":
		agents(arguments)
	case "front":
		front(arguments)
	default:
		log.Fatalf("%s is none of server, agent, agents, front", os.Args[1])
	}
}
