import Glibc
import LinuxSystem
import Testing

/// The terminal is one of the process's few globals: one test at a time.
@Suite(.serialized) struct TerminalModeTests {
    private func pseudoTerminal() throws -> (primary: Descriptor, replica: Descriptor) {
        let primary = try Descriptor(open: "/dev/ptmx", O_RDWR | O_NOCTTY)
        var unlocked: Int32 = 0
        // TIOCSPTLCK and TIOCGPTPEER (ioctl_tty(2)), which Swift does not see.
        try syscall("ioctl") { ioctl(primary.raw, 0x4004_5431, &unlocked) }
        let replica = try syscall("ioctl") { ioctl(primary.raw, 0x5441, O_RDWR | O_NOCTTY | O_CLOEXEC) }
        return (primary, Descriptor(owning: replica))
    }

    private func flags(_ terminal: Descriptor) -> (local: tcflag_t, input: tcflag_t, output: tcflag_t) {
        var settings = termios()
        tcgetattr(terminal.raw, &settings)
        return (settings.c_lflag, settings.c_iflag, settings.c_oflag)
    }

    @Test func rawModeIsSetAndPutBack() throws {
        let terminal = try pseudoTerminal()
        let before = flags(terminal.replica)
        try TerminalMode.makeRaw(terminal.replica.raw)
        #expect(flags(terminal.replica).local & tcflag_t(ICANON | ECHO | ISIG) == 0)
        TerminalMode.restore()
        #expect(flags(terminal.replica) == before)
        TerminalMode.restore()
        #expect(flags(terminal.replica) == before)
    }

    @Test func rawModeIsSetAgainAfterAStop() throws {
        let terminal = try pseudoTerminal()
        let before = flags(terminal.replica)
        try TerminalMode.makeRaw(terminal.replica.raw)
        let raw = flags(terminal.replica)
        // What a shell does to the terminal of a stopped job.
        var settings = termios()
        tcgetattr(terminal.replica.raw, &settings)
        settings.c_lflag |= tcflag_t(ICANON | ECHO)
        tcsetattr(terminal.replica.raw, TCSANOW, &settings)
        TerminalMode.makeRawAgain()
        #expect(flags(terminal.replica) == raw)
        TerminalMode.restore()
        #expect(flags(terminal.replica) == before)
        TerminalMode.makeRawAgain()
        #expect(flags(terminal.replica) == before)
    }

    @Test func onlyATerminalCanBeRaw() throws {
        let pipe = try DescriptorPassing.pipe()
        #expect(throws: SyscallError.self) { try TerminalMode.makeRaw(pipe.read.raw) }
        #expect(!TerminalMode.isTerminal(pipe.read.raw))
        #expect(TerminalMode.size(pipe.read.raw) == nil)
    }

    @Test func writesNeverWait() throws {
        let pipe = try DescriptorPassing.pipe()
        let end = WriteEnd(pipe.write.raw)
        let bytes = [UInt8](repeating: 7, count: 1 << 20)
        var written = 0
        while case .moved(let count) = bytes.withUnsafeBytes({ end.write($0) }) { written += count }
        #expect(written >= 4096)
        #expect(bytes.withUnsafeBytes { end.write($0) } == .wouldBlock)
        // The descriptor that others share is as it was.
        #expect(fcntl(pipe.write.raw, F_GETFL) & O_NONBLOCK == 0)
        pipe.read.close()
        Glibc.signal(SIGPIPE, SIG_IGN)
        #expect(bytes.withUnsafeBytes { end.write($0) } == .closed(code: EPIPE))
    }
}
