import CLinux
import Glibc
import LinuxSystem

/// Descriptors that were opened as `/dev/tty`.
///
/// CRIU 4.2 refuses them (`ctty inheritance detected`) where another process holds the terminal's other end, as smi-init
/// does for every session. Busybox's shell has one, and so has whatever asks for a password. Before a dump each becomes a
/// duplicate of a descriptor that the same process has of the same terminal by the terminal's own name.
struct TerminalDescriptors {
    /// One descriptor on `/dev/tty`.
    struct Alias: Equatable {
        let number: Int32
        /// Another descriptor of the process for the same terminal, open for reading and writing; nil where it has none.
        let other: Int32?
        /// Whether it is closed by execve.
        let closesOnExec: Bool
    }

    /// The descriptors on `/dev/tty` of one process.
    let aliases: [Alias]
    private let process: SandboxedProcess

    /// Looks at a process; one without a controlling terminal, as every server is, costs one read.
    init(of process: SandboxedProcess) {
        self.process = process
        guard let terminal = Self.controllingTerminal(of: process.hostPid) else {
            aliases = []
            return
        }
        var onTerminal: [Int32] = []
        var onAlias: [Int32] = []
        for number in Directories.entries(of: "/proc/\(process.hostPid)/fd").compactMap({ Int32($0) }).sorted() {
            let target = process.link("fd/\(number)")
            if target == "/dev/tty" { onAlias.append(number) }
            if target == terminal { onTerminal.append(number) }
        }
        let other = onAlias.isEmpty ? nil : onTerminal.first { Self.flags($0, of: process) & O_ACCMODE == O_RDWR }
        aliases = onAlias.map { number in
            let closes = Self.flags(number, of: process) & O_CLOEXEC != 0
            return Alias(number: number, other: other, closesOnExec: closes)
        }
    }

    /// Replaces what can be replaced in all processes of the sandbox whose init this is.
    ///
    /// What cannot is for the dump to refuse, which names it.
    static func replaceAliases(sandbox root: Int32) {
        for hostPid in SandboxedProcess.tree(of: root).dropFirst() {
            guard let process = SandboxedProcess(hostPid: hostPid) else { continue }
            TerminalDescriptors(of: process).replace()
        }
    }

    private func replace() {
        for alias in aliases {
            guard let other = alias.other else { continue }
            let flags = alias.closesOnExec ? O_CLOEXEC : 0
            _ = smi_inject_dup(process.hostPid, other, alias.number, flags, 200)
        }
    }

    /// The name of a process's controlling terminal where that is a pseudo-terminal (proc_pid_stat(5), `tty_nr`).
    private static func controllingTerminal(of pid: Int32) -> String? {
        guard let text = try? FileContents.string(of: "/proc/\(pid)/stat"), let close = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[text.index(after: close)...].split(separator: " ")
        guard fields.count > 4, let number = Int32(fields[4]), number >> 8 & 0xfff == pseudoTerminals else {
            return nil
        }
        return "/dev/pts/\(number & 0xff | number >> 12 & 0xfff00)"
    }

    /// The device class of /dev/pts.
    private static let pseudoTerminals: Int32 = 136

    private static func flags(_ number: Int32, of process: SandboxedProcess) -> Int32 {
        let text = (try? FileContents.string(of: "/proc/\(process.hostPid)/fdinfo/\(number)")) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("flags:") }
        return line?.split(whereSeparator: \.isWhitespace).last.flatMap { Int32($0, radix: 8) } ?? 0
    }
}
