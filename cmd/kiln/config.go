package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// config is the YAML file of --config: flag names with their values, either at
// the top for every command that has the flag, or below a command's name:
//
//	data-dir: /var/lib/kiln
//	serve:
//	  listen: 127.0.0.1:8081
//	  import-root: [/data/in, /data/more]
//
// Values are kept as written (nodes), so that 2020-01-01 or 010 mean what they
// mean on the command line.
type config struct {
	top      map[string]yaml.Node
	commands map[string]map[string]yaml.Node
}

// loadConfig reads the file; kong calls it for --config.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	c := &config{top: map[string]yaml.Node{}, commands: map[string]map[string]yaml.Node{}}
	if err := yaml.NewDecoder(r).Decode(&c.top); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	for key, node := range c.top {
		if node.Kind != yaml.MappingNode {
			continue
		}
		below := map[string]yaml.Node{}
		if err := node.Decode(&below); err != nil {
			return nil, fmt.Errorf("cannot read the configuration below %q: %w", key, err)
		}
		c.commands[key] = below
		delete(c.top, key)
	}
	return c, nil
}

// Validate refuses keys that are no flag, so that a typing error is not
// silently a default.
func (c *config) Validate(app *kong.Application) error {
	flags := map[string]map[string]bool{}
	anywhere := map[string]bool{}
	for _, command := range app.Children {
		flags[command.Name] = map[string]bool{}
		for _, flag := range command.Flags {
			flags[command.Name][flag.Name] = true
			anywhere[flag.Name] = true
		}
	}
	for key := range c.top {
		if !anywhere[key] {
			return fmt.Errorf("the configuration has %q, which is no flag of any command", key)
		}
	}
	for command, values := range c.commands {
		if flags[command] == nil {
			return fmt.Errorf("the configuration has %q, which is no command", command)
		}
		for key := range values {
			if !flags[command][key] {
				return fmt.Errorf("the configuration has %q below %q, which is no flag of that command", key, command)
			}
		}
	}
	return nil
}

// Resolve gives a flag its value unless the environment has one, which wins.
func (c *config) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	if node := parent.Node(); node != nil {
		if value, ok := c.commands[node.Name][flag.Name]; ok {
			return flagText(&value)
		}
	}
	if value, ok := c.top[flag.Name]; ok {
		return flagText(&value)
	}
	return nil, nil
}

// flagText is a value as the command line takes it: the scalar as written, or
// the comma-separated form of a repeated flag.
func flagText(value *yaml.Node) (any, error) {
	switch value.Kind {
	case yaml.ScalarNode:
		return value.Value, nil
	case yaml.SequenceNode:
		texts := make([]string, 0, len(value.Content))
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d of the configuration is neither a text nor a list of texts", item.Line)
			}
			texts = append(texts, strings.ReplaceAll(item.Value, ",", `\,`))
		}
		return strings.Join(texts, ","), nil
	default:
		return nil, fmt.Errorf("line %d of the configuration is neither a text nor a list of texts", value.Line)
	}
}
