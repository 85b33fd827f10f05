package standalone

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// ErrRemote is wrapped by what refuses an address beyond loopback.
var ErrRemote = errors.New("standalone is for trying on one machine, and other machines can reach this address: listen on 127.0.0.1, or allow it with --allow-remote")

// checkListen refuses an address of which anything is beyond loopback, unless
// that is allowed. A name counts for all that it stands for.
func (c Config) checkListen(ctx context.Context) error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(ctx, "tcp", port)
	}
	switch {
	case err != nil:
		return fmt.Errorf("--listen must be host:port, such as 127.0.0.1:8080, not %q", c.Listen)
	case c.AllowRemote:
		return nil
	case host == "":
		return fmt.Errorf("--listen %s: %w", c.Listen, ErrRemote)
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", c.Listen, err)
	}
	for _, a := range addresses {
		if !a.IP.IsLoopback() {
			return fmt.Errorf("--listen %s (%s): %w", c.Listen, a.IP, ErrRemote)
		}
	}
	return nil
}
