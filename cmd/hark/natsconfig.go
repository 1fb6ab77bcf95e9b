package main

import (
	"io"

	"github.com/hark-jobs/hark"
)

// NATSConfigCmd is hark nats-config.
type NATSConfigCmd struct {
	Namespace   string   `help:"The namespace of hark." default:"hark" placeholder:"NAME"`
	JSDomain    string   `name:"js-domain" help:"JetStream domain of hark's streams, where the users connect to a leaf node." placeholder:"NAME"`
	JSAPIPrefix string   `name:"js-api-prefix" help:"Prefix of JetStream's API, where the account imports it under another name than $JS.API." placeholder:"SUBJECT"`
	Kinds       []string `name:"kinds" help:"The kinds of all workers, with commas between. Workers may then run these alone. By default any." placeholder:"KIND"`
	Streams     int      `help:"The number of streams of the log, as hark setup has it." default:"1" placeholder:"N"`
}

// Run prints an account of NATS with a user for each role. It does not connect.
func (c *NATSConfigCmd) Run(s Streams) error {
	text, err := hark.NATSConfig(hark.NATSConfigOptions{Namespace: c.Namespace, JSDomain: c.JSDomain, JSAPIPrefix: c.JSAPIPrefix, Kinds: c.Kinds, Streams: c.Streams})
	if err != nil {
		return asUsage(err)
	}
	_, err = io.WriteString(s.Out, text)
	return err
}
