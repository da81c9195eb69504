package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Exit codes as a shell gives them.
const (
	exitNotFound = 127 // a command that cannot be started
	exitSignal   = 128 // added to the number of the signal that ended a command
)

// containers runs commands and connections in the place of a container runtime.
type containers struct {
	root    string
	attach  string
	running sync.WaitGroup
}

// streams are the ends that one exec or attach connects; an end that was not asked for is nil.
type streams struct {
	in       io.Reader
	out, err io.Writer
	resize   <-chan remotecommand.TerminalSize
}

// ExecInContainer runs argv in the container's folder; a non-zero exit comes back as a CodeExitError.
func (c *containers) ExecInContainer(ctx context.Context, pod, _, container string, argv []string,
	in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	return c.run(ctx, filepath.Join(c.root, pod, container), argv, tty, open(in, out, errs, resize))
}

// AttachContainer stands a command in for the container's main process.
func (c *containers) AttachContainer(ctx context.Context, pod, _, container string,
	in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize,
) error {
	return c.run(ctx, filepath.Join(c.root, pod, container), []string{"sh", "-c", c.attach}, tty, open(in, out, errs, resize))
}

// PortForward joins stream with 127.0.0.1:port; the end of one direction leaves the other open.
func (c *containers) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, stream)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	return err
}

// open keeps a missing stream a plain nil: an interface that holds a nil pointer would not be one.
func open(in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) streams {
	s := streams{in: in, resize: resize}
	if out != nil {
		s.out = out
	}
	if errs != nil {
		s.err = errs
	}
	return s
}

// run starts argv in dir and waits for it; the end of ctx kills its whole process group.
func (c *containers) run(ctx context.Context, dir string, argv []string, tty bool, s streams) error {
	c.running.Add(1)
	defer c.running.Done()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second // for a grandchild that keeps the pipes open
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if tty {
		return exitStatus(runTTY(cmd, s))
	}
	return exitStatus(runPiped(cmd, s))
}

func runPiped(cmd *exec.Cmd, s streams) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = s.out, s.err
	if s.in == nil {
		return cmd.Run()
	}
	// Not cmd.Stdin: Wait would then wait for the client's end of stdin after the command has ended.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(stdin, s.in)
		_ = stdin.Close()
	}()
	return cmd.Wait()
}

func runTTY(cmd *exec.Cmd, s streams) error {
	terminal, err := pty.Start(cmd) // a session, and so a process group, of its own
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() {
		for size := range s.resize {
			_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
		}
	}()
	if s.in != nil {
		go func() { _, _ = io.Copy(terminal, s.in) }()
	}
	if s.out != nil {
		_, _ = io.Copy(s.out, terminal) // ends with EIO when the last process has closed the terminal
	}
	return cmd.Wait()
}

// exitStatus turns the end of a command into the error from which the streaming package takes the exit code.
func exitStatus(err error) error {
	var ended *exec.ExitError
	var notStarted *exec.Error
	var path *os.PathError
	code := 0
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ended):
		code = ended.ExitCode()
		if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = exitSignal + int(status.Signal())
		}
	case errors.As(err, &notStarted), errors.As(err, &path):
		code = exitNotFound
	default:
		return err
	}
	return utilexec.CodeExitError{Err: fmt.Errorf("command terminated: %w", err), Code: code}
}
