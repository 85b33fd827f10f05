package suite

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

// TestExitCodes: 0 done, 1 failed, 2 asked in the wrong way, which names the flag.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	short := filepath.Join(dir, "short")
	for path, key := range map[string]string{keys: strings.Repeat("k", 32), short: "k"} {
		if err := os.WriteFile(path, []byte(base64.RawURLEncoding.EncodeToString([]byte(key))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nowhere := mustFreeAddress(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--help"}, 0, "topic"},
		{[]string{"projector", "--help"}, 0, "--nodes"},
		{[]string{"--version"}, 0, "seenby"},
		{nil, 2, "standalone"},
		{[]string{"fly"}, 2, "fly"},
		{[]string{"token", "--fly"}, 2, "--fly"},
		{[]string{"token", "--auth-key-file", keys}, 2, "--subject"},
		{[]string{"token", "--subject", "alice"}, 2, "--auth-key-file"},
		{[]string{"token", "--subject", "..", "--auth-key-file", keys}, 2, "subject"},
		{[]string{"token", "--subject", "alice", "--auth-key-file", filepath.Join(dir, "none")}, 2, "none"},
		{[]string{"token", "--subject", "alice", "--auth-key-file", short}, 2, "short"},
		{[]string{"topic", "create", "--brokers", nowhere, "--partitions", "0"}, 2, "--partitions"},
		{[]string{"topic", "create", "--brokers", nowhere, "--min-in-sync", "4"}, 2, "--min-in-sync"},
		{[]string{"topic", "check", "--brokers", nowhere, "--timeout", "300ms"}, 1, ""},
		{[]string{"topic", "check"}, 2, "--brokers"},
		{[]string{"ingest", "--brokers", nowhere, "--auth-key-file", short}, 2, "--auth-key-file"},
		{[]string{"ingest", "--brokers", nowhere, "--auth-key-file", keys, "--retention", "soon"}, 2, "--retention"},
		{[]string{"projector", "--brokers", nowhere, "--internal-secret-file", keys, "--data", dir, "--nodes", "2", "--node", "2"}, 2, "--node"},
		{[]string{"query", "--auth-key-file", keys, "--internal-secret-file", keys, "--projectors", "::"}, 2, "--projectors"},
	} {
		name := strings.Join(c.args, " ")
		t.Run(name, func(t *testing.T) {
			code, out, errs := command(t, c.args...)
			if code != c.code || !strings.Contains(out+errs, c.says) {
				t.Errorf("exit code %d, must be %d and say %q\n%s%s", code, c.code, c.says, out, errs)
			}
			if code != 0 && (errs == "" || out != "") {
				t.Errorf("errors go to stderr, alone\nstdout: %s\nstderr: %s", out, errs)
			}
		})
	}
}

// TestTopicCommands makes a topic, judges it, makes it worse, and judges again.
func TestTopicCommands(t *testing.T) {
	k := theKafka(t)
	topic := k.newTopic(t, 4)
	flags := []string{"--brokers", strings.Join(k.brokers, ","), "--topic", topic}
	check := append([]string{"topic", "check"}, flags...)

	if code, out, errs := command(t, append(check, "--partitions", "4")...); code != 0 {
		t.Errorf("check of what create made: exit code %d\n%s%s", code, out, errs)
	}
	if code, _, errs := command(t, k.createArgs(topic, 4)...); code != 1 || !strings.Contains(errs, topic) {
		t.Errorf("create of what exists: exit code %d, %s", code, errs)
	}
	if code, _, errs := command(t, "topic", "check", "--brokers", strings.Join(k.brokers, ","), "--topic", topic+"-none"); code != 1 || !strings.Contains(errs, "seenby topic create") {
		t.Errorf("check of what does not exist: exit code %d, %s", code, errs)
	}
	if code, out, _ := command(t, append(check, "--partitions", "5")...); code != 1 || !strings.Contains(out, "partitions") {
		t.Errorf("check of another number of partitions: exit code %d, %s", code, out)
	}
	if code, out, _ := command(t, append(check, "--retention", "9000h")...); code != 1 || !strings.Contains(out, "retention.ms") {
		t.Errorf("check of a longer retention: exit code %d, %s", code, out)
	}
	for setting, value := range map[string]string{
		"cleanup.policy": "compact,delete", "retention.ms": "3600000", "retention.bytes": "1000000", "max.message.bytes": "1000",
		"unclean.leader.election.enable": "true", "min.insync.replicas": "1", "message.timestamp.type": "CreateTime",
	} {
		t.Run(setting, func(t *testing.T) {
			before := k.configure(t, topic, setting, &value)
			code, out, errs := command(t, check...)
			if code != 1 || !strings.Contains(out, setting) || !strings.Contains(out, value) {
				t.Errorf("with %s=%s: exit code %d\n%s%s", setting, value, code, out, errs)
			}
			k.configure(t, topic, setting, before)
		})
	}
	if code, out, errs := command(t, check...); code != 0 {
		t.Errorf("check of what was made well again: exit code %d\n%s%s", code, out, errs)
	}
}

// configure sets a topic's setting, and returns what it was.
func (k *kafka) configure(t *testing.T, topic, name string, value *string) (before *string) {
	t.Helper()
	is := func() *string {
		all, err := k.admin.DescribeTopicConfigs(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all[0].Configs {
			if c.Key == name {
				return c.Value
			}
		}
		return nil
	}
	before = is()
	alter := kadm.AlterConfig{Name: name, Value: value}
	if value == nil {
		alter.Op = kadm.DeleteConfig
	}
	if _, err := k.admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{alter}, topic); err != nil {
		t.Fatal(err)
	}
	await(t, func() (bool, string) { // The brokers learn of it one after the other.
		now := is()
		return value == nil || now != nil && *now == *value, "the setting of " + name + " does not come through"
	})
	return before
}

// TestTokenCommand prints a token alone, which is good for what it says.
func TestTokenCommand(t *testing.T) {
	s := newSystem(t, theKafka(t), 1).small()
	token := func(flags ...string) http.Header {
		code, out, errs := command(t, append([]string{"token", "--auth-key-file", s.authFile}, flags...)...)
		if code != 0 || errs != "" || strings.Count(out, "\n") != 1 || strings.ContainsAny(strings.TrimSuffix(out, "\n"), " \n") {
			t.Fatalf("seenby token: exit code %d, stdout %q, stderr %q", code, out, errs)
		}
		return http.Header{"Authorization": {"Bearer " + strings.TrimSpace(out)}}
	}
	put := putMessage("m1", "alice", "bob")
	put.who, put.header = "", token("--subject", "chat", "--backend", "--ttl", "1m")
	position := s.send(put)
	s.awaitRead(t, "alice", "m1", position)

	pull := pullMessage("", "m1", nil)
	pull.header = token("--subject", "alice")
	s.expect(mustAsk(t, s, pull), http.StatusOK, "")
	pull.header = token("--subject", "bob")
	s.expect(mustAsk(t, s, pull), http.StatusNotFound, "not_found")
	put.header = token("--subject", "bob")
	a, err := s.client.write(t.Context(), put)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(a, http.StatusForbidden, "backend_only")
}
