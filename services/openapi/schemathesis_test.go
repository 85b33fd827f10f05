package openapi_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"testing"
)

// TestSchemathesis has the description's own words tried on the server, good and bad,
// alone and in sequences, with all checks on.
func TestSchemathesis(t *testing.T) {
	python := os.Getenv("SEENBY_TEST_PYTHON")
	if python == "" || exec.CommandContext(t.Context(), python, "-c", "import schemathesis").Run() != nil {
		t.Skip("requires python: set SEENBY_TEST_PYTHON to a Python 3 with schemathesis (python3 -m venv DIR; DIR/bin/pip install schemathesis)")
	}
	a := newAPI(t)
	ask := func(method, path, body string) map[string]any {
		t.Helper()
		operation := method + " " + path
		request := request{method: method, path: path, token: "backend", body: body}
		switch u, err := url.Parse(path); {
		case err != nil:
			t.Fatal(err)
		case method == http.MethodPut:
			operation = "PUT /v1/messages/{message_id}"
		case method == http.MethodGet:
			operation = "GET /v1/messages/{message_id}" + u.Path[len("/v1/messages/m1"):]
		}
		answer, _, what := a.ask(operation, request)
		if what != "200" && what != "202" {
			t.Fatalf("%s %s: %s: %v", method, path, what, answer)
		}
		return answer
	}
	ask(http.MethodPut, "/v1/messages/m1", `{"conversation_id": "c1", "sender_id": "alice", "recipients": ["bob", "carol", "dan", "erin"]}`)
	read := ask(http.MethodPost, "/v1/receipts", `{"receipts": [{"message_id": "m1", "reader_id": "bob"}, {"message_id": "m1", "reader_id": "carol"}]}`)
	position := read["position"].(string)
	set := ask(http.MethodGet, "/v1/messages/m1/receipts?limit=1&min_position="+position, "")
	rest := ask(http.MethodGet, "/v1/messages/m1/unread?limit=1&min_position="+position, "")
	tried := exec.CommandContext(t.Context(), python, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
		"--config-file", "schemathesis.toml", "run", a.base+"/openapi.json", "--header", "Authorization: Bearer "+a.tokens["backend"],
		"--checks", "all", "--include-path-regex", "^/v1", "--max-examples", "40", "--no-color", "--suppress-health-check", "all", "--seed", "1",
		"--generation-database", "none")
	tried.Dir = "testdata"
	tried.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS=hooks", "PYTHONDONTWRITEBYTECODE=1", "HYPOTHESIS_STORAGE_DIRECTORY="+t.TempDir(), "SEENBY_MESSAGE=m1",
		"SEENBY_VERSION="+set["version"].(string), "SEENBY_CURSOR="+set["next"].(string), "SEENBY_UNREAD_CURSOR="+rest["next"].(string), "SEENBY_POSITION="+position)
	if said, err := tried.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
