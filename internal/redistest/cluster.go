package redistest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// slotCount is how many slots a Cluster has.
const slotCount = 16384

// Cluster is a Redis Cluster. Its nodes find each other dead after 0.8 s.
type Cluster struct {
	// Nodes are the masters and, behind them, one replica for each, if there are any: node i is
	// replicated by node i+Masters at the start.
	Nodes   []*Server
	Masters int
}

// StartCluster runs a Cluster until the test ends and returns once all nodes agree that it works.
// The slots are spread over the masters in order.
func StartCluster(t testing.TB, masters int, replicas bool, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{Masters: masters}
	all := append([]string{
		"--cluster-enabled", "yes", "--cluster-node-timeout", "800", "--cluster-replica-validity-factor", "0",
		"--cluster-allow-replica-migration", "no",
	}, args...)
	count := masters
	if replicas {
		count *= 2
	}
	for range count {
		c.Nodes = append(c.Nodes, Start(t, all...))
	}
	for i, n := range c.Nodes {
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i < masters {
			n.Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slotCount/masters), strconv.Itoa((i+1)*slotCount/masters-1))
		}
		c.Join(t, n)
	}
	if err := poll(func() error { return c.agrees(len(c.Nodes)) }); err != nil {
		t.Fatalf("redistest: start cluster: %v", err)
	}
	for i, n := range c.Nodes[masters:] {
		id := c.Nodes[i].Text("CLUSTER", "MYID")
		n.Do("CLUSTER", "REPLICATE", id)
	}
	if err := poll(c.replicates); err != nil {
		t.Fatalf("redistest: start replicas: %v", err)
	}
	return c
}

// Join makes a node known to the first one, and through it to all.
func (c *Cluster) Join(t testing.TB, n *Server) {
	t.Helper()
	if n != c.Nodes[0] {
		n.Do("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(c.Nodes[0].linkPort()))
	}
}

// AddNode runs a further master, which has no slot, and returns once all know it.
func (c *Cluster) AddNode(t testing.TB, args ...string) *Server {
	t.Helper()
	n := Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "800"}, args...)...)
	c.Join(t, n)
	c.Nodes = append(c.Nodes, n)
	if err := poll(func() error { return c.agrees(len(c.Nodes)) }); err != nil {
		t.Fatalf("redistest: add node: %v", err)
	}
	return n
}

// agrees tells why the nodes do not agree yet that there are count of them and that all slots work.
func (c *Cluster) agrees(count int) error {
	for _, n := range c.Nodes {
		reply, err := n.Try("CLUSTER", "INFO")
		if err != nil {
			return err
		}
		info, known := fmt.Sprint(reply), fmt.Sprintf("cluster_known_nodes:%d\r", count)
		if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, known) {
			return fmt.Errorf("port %d says %.120q", n.Port, info)
		}
	}
	return nil
}

// replicates tells why the replicas do not replicate yet, or are not known as such.
func (c *Cluster) replicates() error {
	for _, n := range c.Nodes {
		reply, err := n.Try("CLUSTER", "NODES")
		if err != nil {
			return err
		}
		if strings.Count(fmt.Sprint(reply), "slave") != len(c.Nodes)-c.Masters {
			return errors.New("not all replicas are known")
		}
	}
	for _, n := range c.Nodes[c.Masters:] {
		reply, err := n.Try("INFO", "replication")
		if err != nil {
			return err
		}
		if !strings.Contains(fmt.Sprint(reply), "master_link_status:up") {
			return errors.New("a replica has no link to its master")
		}
	}
	return nil
}

// Owner is the node that a key belongs to now, in the eyes of a majority of the nodes that live.
func (c *Cluster) Owner(key string) *Server {
	votes := map[*Server]int{}
	live := 0
	for _, n := range c.Nodes {
		if _, err := n.Try("PING"); err != nil {
			continue
		}
		live++
		if owner := c.ownerSeenBy(n, key); owner != nil {
			votes[owner]++
		}
	}
	for owner, n := range votes {
		if n*2 > live {
			return owner
		}
	}
	return nil
}

// ownerSeenBy asks one node by a read, which it serves or redirects.
func (c *Cluster) ownerSeenBy(n *Server, key string) *Server {
	_, err := n.Try("PTTL", key)
	var reply Error
	if err == nil {
		return n
	}
	if !errors.As(err, &reply) {
		return nil
	}
	words := strings.Fields(string(reply))
	if len(words) == 3 && words[0] == "MOVED" {
		for _, other := range c.Nodes {
			if other.Addr() == words[2] {
				return other
			}
		}
	}
	return nil
}

// Do runs one command, whose second word is a key, on the node that the key belongs to. It waits
// for one while a failover is under way.
func (c *Cluster) Do(t testing.TB, args ...string) any {
	t.Helper()
	var reply any
	if err := poll(func() (err error) {
		owner := c.Owner(args[1])
		if owner == nil {
			return errors.New("nobody owns the key")
		}
		reply, err = owner.Try(args...)
		return err
	}); err != nil {
		t.Fatalf("redistest: %v: %v", args, err)
	}
	return reply
}

// Write runs one command on the node that takes it. It fails while the key's slot moves or has no
// master; the next call may not.
func (c *Cluster) Write(args ...string) error {
	err := errors.New("no node answers")
	for _, n := range c.Nodes {
		if _, err = n.Try(args...); err == nil {
			return nil
		}
	}
	return err
}

// AwaitOwner waits until a key belongs to another node than old.
func (c *Cluster) AwaitOwner(t testing.TB, key string, old *Server) *Server {
	t.Helper()
	var owner *Server
	if err := poll(func() error {
		if owner = c.Owner(key); owner == nil || owner == old {
			return errors.New("no other node took the slot over")
		}
		return nil
	}); err != nil {
		t.Fatalf("redistest: await failover: %v", err)
	}
	return owner
}

// MoveSlot gives a key's slot to another node, with all that it holds.
func (c *Cluster) MoveSlot(t testing.TB, key string, to *Server) {
	t.Helper()
	from := c.Owner(key)
	slot := strconv.FormatInt(from.Int("CLUSTER", "KEYSLOT", key), 10)
	fromID, toID := from.Text("CLUSTER", "MYID"), to.Text("CLUSTER", "MYID")
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	for {
		keys := from.Strings("CLUSTER", "GETKEYSINSLOT", slot, "100")
		if len(keys) == 0 {
			break
		}
		from.Do(append([]string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.Port), "", "0", "5000", "KEYS"}, keys...)...)
	}
	to.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	from.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
}

// URL is the driver URL of the Cluster; it names two of its nodes.
func (c *Cluster) URL() string {
	return urlOf("redis+cluster", c.Nodes[0].password, c.Nodes[:2], (*Server).Addr)
}

// SecureURL is URL with TLS.
func (c *Cluster) SecureURL() string {
	return urlOf("rediss+cluster", c.Nodes[0].password, c.Nodes[:2], (*Server).SecureAddr)
}
