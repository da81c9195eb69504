package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type object = map[string]any

// event is one change: the line that watches are sent, and where it belongs.
type event struct {
	revision  int
	namespace string
	line      []byte
}

// shelf holds the objects of one kind in one cluster, and all that ever happened to them.
type shelf struct {
	objects map[string]object
	events  []event
	changed chan struct{} // closed at the next change, and then replaced
}

// cluster is one API. Its counts are of requests since the start, `open` of watches now.
type cluster struct {
	mutex    sync.Mutex
	revision int
	shelves  map[*kind]*shelf

	lists, watches, reads, writes, others, open atomic.Int64
}

func newCluster() *cluster {
	return &cluster{revision: 1, shelves: map[*kind]*shelf{}}
}

// shelf is called with the mutex held.
func (c *cluster) shelf(k *kind) *shelf {
	found := c.shelves[k]
	if found == nil {
		found = &shelf{objects: map[string]object{}, changed: make(chan struct{})}
		c.shelves[k] = found
	}
	return found
}

func (c *cluster) get(k *kind, namespace, name string) object {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.shelf(k).objects[namespace+"/"+name]
}

// list gives the objects of a kind, of all namespaces where none is named, and the revision at which they were so.
func (c *cluster) list(k *kind, namespace string) ([]object, int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found := []object{}
	names := []string{}
	for name := range c.shelf(k).objects {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		each := c.shelf(k).objects[name]
		if namespace == "" || namespace == metadata(each)["namespace"] {
			found = append(found, each)
		}
	}
	return found, c.revision
}

// since gives what happened to a kind after a revision and until which one, and what is closed at the next change.
func (c *cluster) since(k *kind, revision int) ([]event, int, <-chan struct{}) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	s := c.shelf(k)
	first := sort.Search(len(s.events), func(i int) bool { return s.events[i].revision > revision })
	return s.events[first:], max(revision, c.revision), s.changed
}

// put stores an object, new where fresh; what the store has of it afterwards, or nil where fresh does not hold.
func (c *cluster) put(k *kind, namespace, name string, it object, fresh bool) object {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	s, at := c.shelf(k), namespace+"/"+name
	old := s.objects[at]
	if fresh == (old != nil) {
		return nil
	}
	meta := object{}
	for key, value := range metadata(it) {
		meta[key] = value
	}
	meta["name"] = name
	if namespace != "" {
		meta["namespace"] = namespace
	}
	if fresh {
		meta["uid"] = uid()
		meta["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	} else {
		for _, key := range []string{"uid", "creationTimestamp"} {
			meta[key] = metadata(old)[key]
		}
	}
	kind := "MODIFIED"
	if fresh {
		kind = "ADDED"
	}
	return c.tell(s, at, kind, with(it, "metadata", meta))
}

func (c *cluster) remove(k *kind, namespace, name string) object {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	s, at := c.shelf(k), namespace+"/"+name
	old := s.objects[at]
	if old == nil {
		return nil
	}
	gone := c.tell(s, at, "DELETED", with(old, "metadata", with(metadata(old))))
	delete(s.objects, at)
	return gone
}

// tell gives an object the next revision, stores it, and lets watches know. Its metadata is its own already.
func (c *cluster) tell(s *shelf, at, kind string, it object) object {
	c.revision++
	meta := metadata(it)
	meta["resourceVersion"] = strconv.Itoa(c.revision)
	s.objects[at] = it
	line, _ := json.Marshal(object{"type": kind, "object": it})
	namespace, _ := meta["namespace"].(string)
	s.events = append(s.events, event{c.revision, namespace, append(line, '\n')})
	close(s.changed)
	s.changed = make(chan struct{})
	return it
}

func metadata(it object) object {
	found, _ := it["metadata"].(map[string]any)
	return found
}

// with copies the outermost level of an object, and sets what is named there.
func with(it object, pairs ...any) object {
	made := make(object, len(it)+1)
	for key, value := range it {
		made[key] = value
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		made[pairs[i].(string)] = pairs[i+1]
	}
	return made
}

// merged is a target with a JSON merge patch; a strategic one of objects without lists is the same.
func merged(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	before, _ := target.(map[string]any)
	made := with(before)
	for key, value := range changes {
		switch {
		case key[:min(1, len(key))] == "$":
		case value == nil:
			delete(made, key)
		default:
			made[key] = merged(made[key], value)
		}
	}
	return made
}

func uid() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
