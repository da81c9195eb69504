package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxBody      = 3 << 20
	discovery    = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	bookmarkTime = time.Minute
)

// clusters are the APIs, by the address of loopback at which they are asked.
type clusters struct {
	mutex  sync.Mutex
	byHost map[string]*cluster

	byPath            map[string]*kind
	documents         map[string][]byte
	allCore, allOther []byte
}

func newClusters(served []*kind) *clusters {
	made := &clusters{
		byHost:    map[string]*cluster{},
		byPath:    map[string]*kind{},
		documents: map[string][]byte{},
		allCore:   text(aggregated(served, true)),
		allOther:  text(aggregated(served, false)),
	}
	for _, k := range served {
		made.byPath[k.groupVersion()+" "+k.plural] = k
	}
	for path, document := range documents(served) {
		made.documents[path] = text(document)
	}
	return made
}

func text(of any) []byte {
	made, err := json.Marshal(of)
	if err != nil {
		panic(err)
	}
	return append(made, '\n')
}

func (all *clusters) at(host string) *cluster {
	all.mutex.Lock()
	defer all.mutex.Unlock()
	found := all.byHost[host]
	if found == nil {
		found = newCluster()
		all.byHost[host] = found
	}
	return found
}

func (all *clusters) counts() map[string]map[string]int64 {
	all.mutex.Lock()
	defer all.mutex.Unlock()
	found := map[string]map[string]int64{}
	for host, c := range all.byHost {
		found[host] = map[string]int64{
			"lists": c.lists.Load(), "watches": c.watches.Load(), "reads": c.reads.Load(),
			"writes": c.writes.Load(), "others": c.others.Load(), "open": c.open.Load(),
		}
	}
	return found
}

func (all *clusters) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	host, _, _ := net.SplitHostPort(local.String())
	c := all.at(host)
	path := strings.TrimSuffix(r.URL.Path, "/")
	if r.Method == http.MethodGet && all.fixed(w, r, path) {
		c.others.Add(1)
		return
	}
	k, namespace, name := all.find(path)
	switch {
	case k == nil:
		c.others.Add(1)
		refuse(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
	case r.Method == http.MethodGet && name == "" && watched(r):
		c.watches.Add(1)
		c.open.Add(1)
		defer c.open.Add(-1)
		c.watch(w, r, k, namespace)
	case r.Method == http.MethodGet && name == "":
		c.lists.Add(1)
		items, revision := c.list(k, namespace)
		answer(w, http.StatusOK, object{
			"kind": k.name + "List", "apiVersion": k.groupVersion(), "items": items,
			"metadata": object{"resourceVersion": strconv.Itoa(revision)},
		})
	case r.Method == http.MethodGet:
		c.reads.Add(1)
		if it := c.get(k, namespace, name); it != nil {
			answer(w, http.StatusOK, it)
		} else {
			refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.plural, name))
		}
	default:
		c.writes.Add(1)
		c.write(w, r, k, namespace, name)
	}
}

// fixed answers what is the same for each cluster; false where the path is nothing of that.
func (all *clusters) fixed(w http.ResponseWriter, r *http.Request, path string) bool {
	switch path {
	case "/readyz", "/livez", "/healthz":
		_, _ = io.WriteString(w, "ok")
		return true
	case "/openapi/v2":
		// No definitions: what Argo CD deploys here is known to it without them.
		w.Header().Set("Content-Type", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
		return true
	case "/api", "/apis":
		if strings.Contains(r.Header.Get("Accept"), "as=APIGroupDiscoveryList") {
			w.Header().Set("Content-Type", discovery)
			if path == "/api" {
				_, _ = w.Write(all.allCore)
			} else {
				_, _ = w.Write(all.allOther)
			}
			return true
		}
	}
	document := all.documents[path]
	if document == nil {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document)
	return true
}

// find reads a path: the kind, the namespace where one is named, and the name where one object is meant.
func (all *clusters) find(path string) (*kind, string, string) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	var gv string
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		gv, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		gv, parts = parts[1]+"/"+parts[2], parts[3:]
	default:
		return nil, "", ""
	}
	namespace, name := "", ""
	if len(parts) >= 3 && parts[0] == "namespaces" {
		namespace, parts = parts[1], parts[2:]
	}
	k := all.byPath[gv+" "+parts[0]]
	if k == nil || len(parts) > 2 {
		return nil, "", ""
	}
	if len(parts) == 2 {
		name = parts[1]
	}
	return k, namespace, name
}

func watched(r *http.Request) bool {
	asked := r.URL.Query().Get("watch")
	return asked == "true" || asked == "1"
}

func (c *cluster) watch(w http.ResponseWriter, r *http.Request, k *kind, namespace string) {
	query := r.URL.Query()
	revision, err := strconv.Atoi(query.Get("resourceVersion"))
	if err != nil {
		revision = 0
	}
	flusher, _ := w.(http.Flusher)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flusher.Flush()
	// Not all of them at once, as none began at once.
	bookmark := time.NewTimer(time.Duration((0.5 + rand.Float64()) * float64(bookmarkTime)))
	defer bookmark.Stop()
	for {
		events, now, changed := c.since(k, revision)
		for _, each := range events {
			if namespace == "" || namespace == each.namespace {
				if _, err := w.Write(each.line); err != nil {
					return
				}
			}
		}
		revision = now
		if len(events) > 0 {
			flusher.Flush()
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-bookmark.C:
			bookmark.Reset(bookmarkTime)
			if query.Get("allowWatchBookmarks") == "true" {
				at := object{"resourceVersion": strconv.Itoa(revision)}
				it := object{"kind": k.name, "apiVersion": k.groupVersion(), "metadata": at}
				if _, err := w.Write(text(object{"type": "BOOKMARK", "object": it})); err != nil {
					return
				}
				flusher.Flush()
			}
		}
	}
}

func (c *cluster) write(w http.ResponseWriter, r *http.Request, k *kind, namespace, name string) {
	if r.Method == http.MethodDelete && name != "" {
		if gone := c.remove(k, namespace, name); gone != nil {
			answer(w, http.StatusOK, gone)
		} else {
			refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.plural, name))
		}
		return
	}
	var body any
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(data, &body)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	it, _ := body.(map[string]any)
	switch {
	case r.Method == http.MethodPost && name == "":
		name, _ = metadata(it)["name"].(string)
		if made := c.put(k, namespace, name, it, true); made != nil {
			answer(w, http.StatusCreated, made)
		} else {
			refuse(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("%s %q already exists", k.plural, name))
		}
		return
	case r.Method == http.MethodPatch && strings.Contains(r.Header.Get("Content-Type"), "merge-patch"):
		old := c.get(k, namespace, name)
		if old != nil {
			it, _ = merged(old, body).(map[string]any)
		}
	case r.Method == http.MethodPut:
	default:
		refuse(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", r.Method+" "+r.Header.Get("Content-Type"))
		return
	}
	if made := c.put(k, namespace, name, it, false); made != nil {
		answer(w, http.StatusOK, made)
	} else {
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.plural, name))
	}
}

func answer(w http.ResponseWriter, code int, it object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text(it))
}

func refuse(w http.ResponseWriter, code int, reason, why string) {
	answer(w, code, object{
		"kind": "Status", "apiVersion": "v1", "metadata": object{},
		"status": "Failure", "reason": reason, "code": code, "message": why,
	})
}
