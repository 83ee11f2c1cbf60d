package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A cache mirrors the fleet's keys by a watch. It may lag behind, so decisions use it only to find
// the keys, and read the values from etcd.
type cache struct {
	client *clientv3.Client
	host   string
	wake   chan<- struct{} // receives a value when a reservation of this host changes
	stale  chan struct{}   // receives a value when etcd may have lost keys that the cache has

	mu           sync.RWMutex
	isReady      bool // the keys were read once
	revision     int64
	known        map[string]bool
	hosts        map[string]self
	members      map[string]Member          // by key
	groups       map[string]map[string]bool // keys of members by group
	reservations map[string]reservation     // by key
}

func newCache(client *clientv3.Client, host string, wake chan<- struct{}) *cache {
	c := &cache{client: client, host: host, wake: wake, stale: make(chan struct{}, 1)}
	c.clear()
	return c
}

func (c *cache) clear() {
	c.known, c.hosts, c.members = map[string]bool{}, map[string]self{}, map[string]Member{}
	c.groups, c.reservations = map[string]map[string]bool{}, map[string]reservation{}
}

const pageSize = 1000 // keys

// run keeps the cache up to date until ctx ends. It calls note with each error, and with nil after
// it.
func (c *cache) run(ctx context.Context, note func(error)) {
	for ctx.Err() == nil {
		err := c.load(ctx)
		for err == nil && ctx.Err() == nil {
			note(nil)
			err = c.watch(ctx)
			if errors.Is(err, errWatchEnded) && ctx.Err() == nil {
				note(err)
				sleep(ctx, retryPace)
				err = nil // the next watch continues there
			}
		}
		if ctx.Err() == nil {
			note(err)
			sleep(ctx, retryPace)
		}
	}
}

// load reads all keys at one revision.
func (c *cache) load(ctx context.Context) error {
	var kvs []*mvccpb.KeyValue
	var revision int64
	for from, end := root, clientv3.GetPrefixRangeEnd(root); ; {
		options := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision)}
		page, err := attempts(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) { return c.client.Get(ctx, from, options...) })
		if err != nil {
			return err
		}
		kvs = append(kvs, page.Kvs...)
		if revision == 0 {
			revision = page.Header.Revision
		}
		if !page.More {
			break
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	for _, kv := range kvs {
		c.put(kv)
	}
	c.isReady, c.revision = true, revision
	return nil
}

// errWatchEnded is returned when a watch has ended, and another one can continue from there.
var errWatchEnded = errors.New("the watch ended")

// errStale is returned when etcd may have been set up anew. A watch for changes after a revision
// that such an etcd does not have would see nothing.
var errStale = errors.New("etcd does not have what this host published last; all is read anew")

// watch applies the changes after the revision of the cache. It always returns an error.
func (c *cache) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := c.client.Watch(clientv3.WithRequireLeader(ctx), root, clientv3.WithPrefix(), clientv3.WithRev(c.at()+1), clientv3.WithFragment())
	for {
		select {
		case <-c.stale:
			return errStale
		case response, ok := <-changes:
			switch err := response.Err(); {
			case !ok:
				return errWatchEnded
			case response.CompactRevision != 0:
				return err // some changes are lost, so all keys are read again
			case err != nil:
				return fmt.Errorf("%w: %w", errWatchEnded, err)
			}
			c.apply(response)
		}
	}
}

func (c *cache) at() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.revision
}

func (c *cache) apply(response clientv3.WatchResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, event := range response.Events {
		if event.Type == clientv3.EventTypeDelete {
			c.remove(string(event.Kv.Key))
		} else {
			c.put(event.Kv)
		}
		// The revision of the header may be ahead of the events.
		c.revision = max(c.revision, event.Kv.ModRevision)
	}
}

func (c *cache) put(kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	c.remove(key)
	e := parse(key, kv.Value, kv.ModRevision)
	switch {
	case e.known != "":
		c.known[e.known] = true
	case e.self != nil:
		c.hosts[e.host] = *e.self
	case e.member != nil:
		c.members[key] = *e.member
		for _, group := range e.member.Groups {
			if c.groups[group] == nil {
				c.groups[group] = map[string]bool{}
			}
			c.groups[group][key] = true
		}
	case e.held != nil:
		c.reservations[key] = *e.held
		if e.held.host == c.host {
			signal(c.wake)
		}
	}
}

func (c *cache) remove(key string) {
	if m, ok := c.members[key]; ok {
		for _, group := range m.Groups {
			if delete(c.groups[group], key); len(c.groups[group]) == 0 {
				delete(c.groups, group)
			}
		}
		delete(c.members, key)
		return
	}
	if _, ok := c.reservations[key]; ok {
		delete(c.reservations, key)
		return
	}
	switch e := parse(key, []byte("{}"), 0); {
	case e.known != "":
		delete(c.known, e.known)
	case e.self != nil:
		delete(c.hosts, e.host)
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// memberKeys returns the keys of the members of groups, each once. It reports false while the fleet
// has not been read.
func (c *cache) memberKeys(groups []string) ([]string, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	keys := map[string]bool{}
	for _, group := range groups {
		maps.Copy(keys, c.groups[group])
	}
	return slices.Sorted(maps.Keys(keys)), c.isReady
}

// own returns the reservations that this host has made.
func (c *cache) own() []reservation {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var own []reservation
	for _, r := range c.reservations {
		if r.host == c.host {
			own = append(own, r)
		}
	}
	return own
}
