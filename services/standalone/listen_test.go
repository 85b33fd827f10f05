package standalone

import (
	"errors"
	"testing"
)

func TestLoopbackOnly(t *testing.T) {
	for _, c := range []struct {
		listen string
		remote bool
		bad    bool
	}{
		{listen: "127.0.0.1:8080"},
		{listen: "127.1.2.3:0"},
		{listen: "[::1]:8080"},
		{listen: "localhost:8080"},
		{listen: ":8080", remote: true},
		{listen: "0.0.0.0:8080", remote: true},
		{listen: "[::]:8080", remote: true},
		{listen: "10.0.0.1:8080", remote: true},
		{listen: "192.0.2.1:80", remote: true},
		{listen: "127.0.0.1", bad: true},
		{listen: "127.0.0.1:65536", bad: true},
		{listen: "0.0.0.0:no-such-port", bad: true},
		{listen: "", bad: true},
	} {
		err := Config{Listen: c.listen}.checkListen(t.Context())
		if errors.Is(err, ErrRemote) != c.remote || (err != nil) != (c.remote || c.bad) {
			t.Errorf("%q: %v", c.listen, err)
		}
	}
	if err := (Config{Listen: "0.0.0.0:8080", AllowRemote: true}).checkListen(t.Context()); err != nil {
		t.Errorf("allowed: %v", err)
	}
}
