package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/standalone"
)

// tokenCommand prints a token, alone, so that it can be used in a shell:
// $(seenby token ...).
type tokenCommand struct {
	Subject     string        `help:"Whom the token speaks for: a user's ID, or any name for a backend." required:"" placeholder:"ID"`
	Backend     bool          `help:"The token is the chat backend's."`
	TTL         time.Duration `help:"How long the token is valid." default:"1h" name:"ttl"`
	Data        string        `help:"Sign with the key of the standalone in this directory." xor:"key" type:"path" placeholder:"DIR"`
	AuthKeyFile string        `help:"Sign with the first key of this file." xor:"key" type:"path" placeholder:"FILE"`
	Issuer      string        `help:"The token's iss." placeholder:"NAME"`
	Audience    string        `help:"The token's aud." placeholder:"NAME"`
}

// Run mints and prints the token.
func (c *tokenCommand) Run(io IO) error {
	keys, err := c.keys()
	if err != nil {
		return err
	}
	grant := auth.Grant{Subject: c.Subject, Issuer: c.Issuer, Audience: c.Audience, IssuedAt: io.Now(), TTL: c.TTL}
	if c.Backend {
		grant.Scope = auth.ScopeBackend
	}
	token, err := auth.Mint(keys, grant)
	if err != nil {
		return usage(err) // the keys are good, so it is what the token should say
	}
	_, err = fmt.Fprintln(io.Stdout, token)
	return err
}

func (c *tokenCommand) keys() (*auth.Keys, error) {
	switch {
	case c.AuthKeyFile != "":
		return openKeys("--auth-key-file", c.AuthKeyFile)
	case c.Data == "":
		return nil, usage(errors.New("--data or --auth-key-file: name the directory of a standalone, or a file of keys"))
	}
	keys, err := auth.OpenKeys(standalone.AuthKey(c.Data))
	if err != nil {
		return nil, fmt.Errorf("%w; has a standalone run in %s?", err, c.Data)
	}
	return keys, nil
}
