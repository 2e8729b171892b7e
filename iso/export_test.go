package iso

// Check is check, by which Remaster judges its own result.
var Check = check
