// Package auth knows who is asking: the secrets that sign and verify, the bearer
// tokens of users and of the chat backend, and the signatures by which a query
// process and a projector know each other. It knows no routes and no messages.
package auth
