// Package pull is the client of the proactive pull: it keeps a local view of who
// has read the messages that are on screen, and asks the server only while they
// are.
//
// # Looks, ticks and the window
//
// A message is being read while its receipts can be seen: half of it, or of the
// viewport if it is taller, is on screen, and the app is in the foreground. The
// app says so with [Watcher.Look] when that becomes true, and with
// [Watcher.Leave] when it ceases to be. In between there is a look. It pulls the
// message's receipts at once and then every interval (2 s) until its window
// (20 s) has passed: 11 pulls at most. Nothing extends a look. Staring on does
// not begin another; coming back does, and so does [Watcher.Refresh].
//
//	Look ──► pull ─2 s─► pull ─2 s─► pull ─ … ─► the window is over: nothing
//	  ▲        └─ Leave, stop, or an error that lasts ─► nothing ─┐
//	  └──────────────── coming back, or Refresh ◄─────────────────┘
//
// A [Watcher] has one tick and one pull in flight, for all its messages:
//
//   - A tick pulls, as one batch (the newest 200), every look whose last pull is
//     an interval old or more. A tick while a pull is in flight is skipped.
//   - A look that begins is pulled at once if nothing is in flight, else at the
//     next tick. Messages that come into view together are best given to one
//     call of Look, as they then share the first batch.
//   - No message is pulled sooner than an interval after its last pull, however
//     often it is left and returned to.
//   - Intervals are each stretched by up to a tenth, at random, so that many
//     clients do not fall into step.
//   - The server sets interval and window, and says when a message will not
//     change any more: every reader has read it, or it was recalled.
//   - While the server asks for patience, and for 2, 4, then 8 s after failures,
//     nothing is requested.
//
// The window is counted by a clock that goes on while the device sleeps.
//
// # The view
//
// [Watcher.View] returns what is known of a message. It never waits for the
// network, and may be called from any goroutine, such as the one that paints.
// A pull asks for what was added since the view's version and the view changes
// when all pages of the answer are there, at once or not at all. The view stays
// after a look has ended, so that the next look has only the difference to ask
// for.
//
// # Integration
//
// Make one Watcher per signed-in user. Its token source is asked before each
// pull, and told when a token was refused:
//
//	var watcher *pull.Watcher
//	watcher, err := pull.New(pull.Config{
//		BaseURL:  "https://receipts.example.com",
//		Token:    session.Token,
//		OnChange: func(id string) { ui.Post(func() { repaint(id, watcher.View(id)) }) },
//	})
//
//	watcher.Look(pull.Message{ID: "m1", Positions: []string{position}}) // it comes into view
//	watcher.Leave("m1")                                                 // it is scrolled away
//	watcher.Refresh("m1")                                               // the user asks for it
//	watcher.Close()                                                     // the user signs out
//
// The position is what the chat backend got for its PUT of the message. With it
// the first pull cannot miss the message. When the app goes to the background,
// Leave everything; when it returns, Look at what is on screen.
//
// A look that ended says why ([View.Ended]); one that failed says how
// ([View.Err]). Errors that pass are in [View.Err] too while the look goes on.
//
// Package pull imports the standard library only.
package pull
