package badgerstore

const workloadDir = "X"

func runWorkload(string) int { return 0 }
