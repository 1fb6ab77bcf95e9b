package cluster_test

import (
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/harkproc"
)

// fault is something that fails or is restarted while users post. do blocks until it is over.
type fault struct {
	name  string
	short bool // it is part of the short form, too
	do    func(*parts, *phase, lengths)
}

// lengths are how long things are away.
type lengths struct {
	killed  time.Duration // a process that is killed
	frozen  time.Duration // a process that stands still, or a network
	cut     time.Duration // a route
	refused time.Duration // a login
}

// title returns the fault's name with its length.
func (f *fault) title(l lengths) string {
	return strings.NewReplacer("{frozen}", l.frozen.String(), "{cut}", l.cut.String(), "{refused}", l.refused.String()).Replace(f.name)
}

var faults = []fault{
	{"none", false, func(_ *parts, _ *phase, l lengths) { time.Sleep(l.killed) }},
	{"a follower is killed", false, func(p *parts, ph *phase, l lengths) {
		_, follower := p.leader()
		p.killNATS(ph, l.killed, follower)
	}},
	{"the leader is killed", true, func(p *parts, ph *phase, l lengths) {
		leader, _ := p.leader()
		p.killNATS(ph, l.killed, leader)
	}},
	{"the meta leader is killed", false, func(p *parts, ph *phase, l lengths) {
		meta := p.nats.MetaLeader()
		if leader, _ := p.leader(); leader == meta {
			p.moveLeader()
		}
		p.killNATS(ph, l.killed, meta)
	}},
	{"a notifier is killed", false, func(p *parts, ph *phase, l lengths) { p.kill(ph, l.killed/2, "notifier 1", p.notifiers[0]) }},
	{"a worker is killed, three times", false, func(p *parts, ph *phase, l lengths) {
		for range 3 { // so that it most likely runs a job once
			p.kill(ph, l.killed/4, "worker 1", p.workers[0])
			time.Sleep(time.Second)
		}
	}},
	{"PostgreSQL is restarted", false, func(p *parts, ph *phase, _ lengths) { p.stopDatabase(ph, 0) }},
	{"PostgreSQL is down for {frozen}", false, func(p *parts, ph *phase, l lengths) { p.stopDatabase(ph, l.frozen) }},
	{"the leader stands still for {frozen}", false, func(p *parts, ph *phase, l lengths) {
		leader, _ := p.leader()
		p.freezeNATS(ph, l.frozen, leader)
	}},
	{"a follower stands still for {frozen}", false, func(p *parts, ph *phase, l lengths) {
		_, follower := p.leader()
		p.freezeNATS(ph, l.frozen, follower)
	}},
	{"packets between a notifier and all NATS servers vanish for {frozen}", true, func(p *parts, ph *phase, l lengths) {
		ph.step("packets vanish")
		for _, r := range p.relays {
			r.Freeze()
		}
		time.Sleep(l.frozen)
		for _, r := range p.relays {
			r.Thaw()
		}
		ph.step("they come again")
	}},
	{"two of three NATS servers are killed for {frozen}", false, func(p *parts, ph *phase, l lengths) {
		leader, follower := p.leader()
		p.killNATS(ph, l.frozen, leader, follower)
	}},
	{"rolling restart of the NATS servers", false, rollNATS},
	{"rolling restart of notifiers and workers", true, rollHark},
	{"the routes of a follower are cut for {cut}", false, func(p *parts, ph *phase, l lengths) {
		_, follower := p.leader()
		p.cutRoutes(ph, l.cut, follower)
	}},
	{"the routes of the leader are cut for {cut}", true, func(p *parts, ph *phase, l lengths) {
		leader, _ := p.leader()
		p.cutRoutes(ph, l.cut, leader)
	}},
	{"the routes of a follower are silent for {cut}", false, func(p *parts, ph *phase, l lengths) {
		_, follower := p.leader()
		ph.step("the routes of n%d are silent", follower+1)
		p.nats.FreezeRoutes(follower)
		time.Sleep(l.cut)
		p.nats.HealRoutes(follower)
		ph.step("healed")
	}},
	{"NATS refuses the login for {refused}", false, func(p *parts, ph *phase, l lengths) {
		for i := range 3 {
			p.nats.SetPassword(i, "not what hark has")
		}
		ph.step("refused")
		time.Sleep(l.refused)
		for i := range 3 {
			p.nats.SetPassword(i, firstPassword)
		}
		ph.step("accepted")
	}},
	{"the password of NATS is changed, server after server", false, func(p *parts, ph *phase, _ lengths) {
		const second = "the second password"
		p.writePassword(second) // before the servers have it
		for i := range 3 {
			p.nats.SetPassword(i, second)
			ph.step("n%d has it", i+1)
			time.Sleep(time.Second)
		}
	}},
}

// killNATS kills servers and starts them again.
func (p *parts) killNATS(ph *phase, away time.Duration, servers ...int) {
	for _, i := range servers {
		p.nats.Kill(i)
		ph.step("kill -9 n%d", i+1)
	}
	time.Sleep(away)
	for _, i := range servers {
		p.nats.Start(i)
	}
	ph.step("restarted")
}

func (p *parts) freezeNATS(ph *phase, d time.Duration, i int) {
	p.nats.Freeze(i)
	ph.step("SIGSTOP n%d", i+1)
	time.Sleep(d)
	p.nats.Thaw(i)
	ph.step("SIGCONT")
}

func (p *parts) cutRoutes(ph *phase, d time.Duration, i int) {
	p.nats.CutRoutes(i)
	ph.step("the routes of n%d are cut", i+1)
	time.Sleep(d)
	p.nats.HealRoutes(i)
	ph.step("healed")
}

func (p *parts) kill(ph *phase, away time.Duration, name string, process *harkproc.Process) {
	process.Kill()
	ph.step("kill -9 %s", name)
	time.Sleep(away)
	process.Restart()
	ph.step("restarted")
}

func (p *parts) stopDatabase(ph *phase, away time.Duration) {
	p.pg.Stop(p.t)
	ph.step("down")
	time.Sleep(away)
	p.pg.Start(p.t)
	ph.step("back")
}

// rollNATS restarts the NATS servers one after another, as docs/deploy.md says: by lame duck mode, and each when the last one
// is whole again.
func rollNATS(p *parts, ph *phase, _ lengths) {
	for i := range 3 {
		ph.step("lame duck n%d", i+1)
		p.nats.LameDuck(i)
		p.nats.Wait(i)
		p.nats.Start(i)
		ph.step("n%d restarted", i+1)
		p.nats.Await()
		ph.step("n%d whole", i+1)
	}
}

// rollHark restarts notifiers and workers one after another, each when the last one is ready.
func rollHark(p *parts, ph *phase, _ lengths) {
	for i, n := range p.notifiers {
		ph.step("SIGTERM notifier %d", i+1)
		p.restart(n, p.urls[i])
		ph.step("ready")
	}
	for i, w := range p.workers {
		ph.step("SIGTERM worker %d", i+1)
		p.restart(w, p.health[i])
		ph.step("ready")
	}
}

func (p *parts) restart(process *harkproc.Process, url string) {
	if code := process.Stop(); code != 0 {
		p.t.Errorf("a process ends with exit code %d after SIGTERM", code)
	}
	process.Restart()
	harkproc.Ready(p.t, url)
}
