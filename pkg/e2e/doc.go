// Package e2e holds tests that run the built binaries as operators do: unmodified AWS
// SDKs ask them, a real redirect leads there, a real systemd starts them, they ask a
// real Vault, the mock does to them what networks do, and virtual machines what kernels
// do. It is a module of its own, so that Purser does not depend on the SDKs that it
// serves.
//
// install.sh installs what the tests need, `make e2e` runs them. What a machine
// cannot do is skipped with a reason, unless CI=true.
package e2e
