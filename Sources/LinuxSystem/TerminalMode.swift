import CLinux
import Glibc

/// The terminal of the command line (termios(3)).
package enum TerminalMode {
    /// Whether the descriptor is a terminal.
    package static func isTerminal(_ descriptor: Int32) -> Bool {
        isatty(descriptor) == 1
    }

    /// Switches to raw mode; put back by `restore`, at exit, and before the process dies of a fatal signal.
    package static func makeRaw(_ descriptor: Int32) throws(SyscallError) {
        try syscall("tcsetattr") { smi_tty_raw(descriptor) }
    }

    /// Puts the terminal back; harmless where `makeRaw` was not called.
    package static func restore() {
        smi_tty_restore()
    }

    /// Raw mode again, after the process was stopped and continued.
    package static func makeRawAgain() {
        smi_tty_again()
    }

    /// The size in characters; nil where the descriptor is no terminal or does not know its size.
    package static func size(_ descriptor: Int32) -> (rows: UInt16, columns: UInt16)? {
        var rows: UInt16 = 0
        var columns: UInt16 = 0
        guard smi_tty_size(descriptor, &rows, &columns) == 0, rows > 0, columns > 0 else { return nil }
        return (rows, columns)
    }
}

/// Signals of this process as bytes on a pipe, so that one poll(2) waits for them too; SIGPIPE is ignored meanwhile.
///
/// There is one handler per process: only one of these may exist at a time.
package final class SignalPipe: Sendable {
    /// Readable when a signal has arrived; one byte, its number, per signal.
    package let descriptor: Descriptor
    private let writer: Descriptor?

    /// Takes these signals over until the object goes away.
    package init(_ signals: [Int32]) throws(SyscallError) {
        let pipe = try DescriptorPassing.pipe()
        descriptor = pipe.read
        writer = pipe.write
        for end in [pipe.read, pipe.write] {
            try syscall("fcntl") { fcntl(end.raw, F_SETFL, O_NONBLOCK) }
        }
        try syscall("sigaction") { smi_signals_to(pipe.write.raw, signals, Int32(signals.count)) }
    }

    /// Signals that come from elsewhere, one byte each; the process's own are left alone.
    package init(reading descriptor: Descriptor) {
        self.descriptor = descriptor
        writer = nil
    }

    deinit {
        if writer != nil { smi_signals_restore() }
    }

    /// The signals that have arrived since the last call, in order.
    package func arrived() -> [Int32] {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = read(descriptor.raw, &bytes, bytes.count)
        return count > 0 ? bytes[..<count].map { Int32($0) } : []
    }
}
