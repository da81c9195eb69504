package main

import (
	"context"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	cri "k8s.io/cri-api/pkg/apis"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
)

// serveLogs answers with a container's log, and follows it as long as the client listens.
func (c *containers) serveLogs(w http.ResponseWriter, r *http.Request) {
	file := filepath.Join(c.root, podOf(r), r.PathValue("container")+".log")
	if _, err := os.Stat(file); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	out := flushing{w, http.NewResponseController(w)}
	_ = out.control.Flush() // the head goes out although there may be no line yet
	if err := logs.ReadLogs(r.Context(), file, "", logOptions(r.URL.Query()), running{}, out, out); err != nil && r.Context().Err() == nil {
		log.Print("logs: ", err)
	}
}

func logOptions(q url.Values) *logs.LogOptions {
	o := &logs.LogOptions{
		Follow:     q.Get("follow") == "true",
		Timestamp:  q.Get("timestamps") == "true",
		TailLines:  number(q.Get("tailLines")),
		LimitBytes: number(q.Get("limitBytes")),
	}
	if seconds := number(q.Get("sinceSeconds")); seconds != nil {
		o.Since = time.Now().Add(-time.Duration(*seconds) * time.Second)
	}
	if at, err := time.Parse(time.RFC3339, q.Get("sinceTime")); err == nil {
		o.Since = at
	}
	return o
}

func number(s string) *int64 {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return &n
	}
	return nil
}

// running is a container runtime in which every container runs: following a log ends with its client.
type running struct{ cri.RuntimeService }

func (running) ContainerStatus(context.Context, string, bool) (*runtime.ContainerStatusResponse, error) {
	return &runtime.ContainerStatusResponse{
		Status: &runtime.ContainerStatus{State: runtime.ContainerState_CONTAINER_RUNNING},
	}, nil
}

// flushing sends each line on its way at once.
type flushing struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (f flushing) Write(line []byte) (int, error) {
	n, err := f.ResponseWriter.Write(line)
	_ = f.control.Flush()
	return n, err
}
