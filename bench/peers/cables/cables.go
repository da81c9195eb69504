// Package cables is what many agents in one process dial with, so that a signal breaks all their tunnels.
package cables

import (
	"context"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// All are the connections of a process.
type All struct {
	lock sync.Mutex
	open []net.Conn
}

// Dial connects as net.Dialer does, and keeps the connection in mind.
func (all *All) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		all.lock.Lock()
		all.open = append(all.open, conn)
		all.lock.Unlock()
	}
	return conn, err
}

// CutOnSignal waits for SIGUSR1, for ever, and breaks each connection then as if its cable were pulled: the
// other side gets a reset, and no farewell of TLS or of whatever is on it.
func (all *All) CutOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	for range signals {
		all.cut()
	}
}

func (all *All) cut() {
	all.lock.Lock()
	open := all.open
	all.open = nil
	all.lock.Unlock()
	for _, conn := range open {
		// One that has ended meanwhile is as broken as it can be.
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}
