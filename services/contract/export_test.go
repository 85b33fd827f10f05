package contract

// SealForTest gives any bytes a good sum, to test what is behind it.
func SealForTest(b []byte, messageID string) string {
	return encoding.EncodeToString(appendSum(append([]byte(nil), b...), messageID))
}

// SignForTest signs any bytes as a cursor's, to test what is behind it.
func SignForTest(b []byte, messageID string, s Sealer) string {
	mac := s.Sign(cursorMessage(b, messageID))[:macSize]
	return encoding.EncodeToString(append(append([]byte(nil), b...), mac...))
}
