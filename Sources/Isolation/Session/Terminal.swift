import Glibc
import LinuxSystem

/// The user's terminal while a session is attached: raw mode, size, and back again whatever happens.
final class Terminal {
    private let input: Int32?

    /// Takes the terminal over where standard input is one.
    init() {
        guard TerminalMode.isTerminal(STDIN_FILENO) else {
            input = nil
            return
        }
        let isRaw = (try? TerminalMode.makeRaw(STDIN_FILENO)) != nil
        input = isRaw ? STDIN_FILENO : nil
    }

    deinit {
        TerminalMode.restore()
    }

    /// Whether keys arrive one by one.
    var isRaw: Bool { input != nil }

    /// Puts the terminal back.
    func restore() {
        TerminalMode.restore()
    }

    /// The size of whichever standard descriptor is a terminal.
    static func size() -> WindowSize? {
        for descriptor in [STDOUT_FILENO, STDIN_FILENO, STDERR_FILENO] {
            if let size = TerminalMode.size(descriptor) {
                return WindowSize(rows: size.rows, columns: size.columns)
            }
        }
        return nil
    }
}
