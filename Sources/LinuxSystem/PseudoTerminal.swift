import CLinux

/// Both ends of a pseudo-terminal (pty(7)).
package struct PseudoTerminal: Sendable {
    /// The end of whoever types and reads.
    package let master: Descriptor
    /// The end that a program takes for a terminal.
    package let slave: Descriptor

    /// Opens one.
    package init() throws(SyscallError) {
        var ends: (Int32, Int32) = (-1, -1)
        let code = smi_pty_open(&ends.0, &ends.1)
        guard code == 0 else { throw SyscallError("posix_openpt", code: -code) }
        master = Descriptor(owning: ends.0)
        slave = Descriptor(owning: ends.1)
    }
}
