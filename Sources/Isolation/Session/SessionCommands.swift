import Glibc
import LinuxSystem

/// What the command line does with sessions.
///
/// These calls work until they are done, on the calling thread: use them from `offload`, or from a command's own thread.
package enum SessionCommands {
    private static let passedOn = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2]
    private static let handled = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT]

    /// Runs a program with this process's standard streams.
    ///
    /// SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the program.
    ///
    /// - Parameters:
    ///   - argv: the program and its arguments, looked up in the sandbox's PATH.
    ///   - environment: `NAME=value` entries beside the sandbox's.
    ///   - workingDirectory: empty for the sandbox's.
    ///   - patience: how long a lost connection may take to come back.
    ///   - dial: gets a connection.
    /// - Returns: the program's exit status; 128 + n for a signal; 127 not found, 126 not executable (a message has
    ///   then been written to standard error).
    /// - Throws: `IsolationError`, or the dialling error.
    package static func exec(
        argv: [String],
        environment: [String] = [],
        workingDirectory: String = "",
        patience: Duration = .seconds(120),
        dial: @escaping SessionDial
    ) throws -> Int32 {
        let local = SessionInput(signals: try SignalPipe(passedOn))
        let start = SessionStart.exec(argv: argv, environment: environment, workingDirectory: workingDirectory)
        let client = try SessionClient(start: start, local: local, patience: patience, dial: dial)
        let result = try client.run()
        return try exitStatus(of: result, program: argv.first ?? "")
    }

    /// Attaches this process's terminal to a session, a new one where `session` is nil.
    ///
    /// - Parameters:
    ///   - session: the number of a session that exists.
    ///   - argv: the program of a new session; empty for a login shell.
    ///   - environment: `NAME=value` entries beside the sandbox's and the terminal's (`TERM`, `COLORTERM`).
    ///   - workingDirectory: empty for the sandbox's.
    ///   - patience: how long a lost connection may take to come back.
    ///   - dial: gets a connection.
    /// - Returns: the program's exit status as `exec` does; 0 after the user has left the session by ctrl-p ctrl-q.
    /// - Throws: `IsolationError`, or the dialling error. The terminal is as it was before in any case.
    package static func attach(
        session: UInt32? = nil,
        argv: [String] = [],
        environment: [String] = [],
        workingDirectory: String = "",
        patience: Duration = .seconds(120),
        dial: @escaping SessionDial
    ) throws -> Int32 {
        let signals = try SignalPipe(handled)
        let terminal = Terminal()
        defer { terminal.restore() }
        let local = SessionInput(signals: signals, isRaw: terminal.isRaw, window: Terminal.size)
        let start =
            session.map { SessionStart.attach(session: $0) }
            ?? .terminal(
                argv: argv,
                environment: terminalEnvironment() + environment,
                workingDirectory: workingDirectory
            )
        let client = try SessionClient(start: start, local: local, patience: patience, dial: dial)
        client.onDropped = { say("smirun: \($0) bytes of older output are gone\r\n") }
        let result = try client.run()
        terminal.restore()
        if case .detached(let number) = result.outcome { say("\nsmirun: left session \(number), which goes on\n") }
        return try exitStatus(of: result, program: argv.first ?? "the login shell")
    }

    /// What of the caller's environment concerns its terminal.
    private static func terminalEnvironment() -> [String] {
        ["TERM", "COLORTERM"].compactMap { name in
            getenv(name).map { name + "=" + String(cString: $0) }
        }
    }

    private static func exitStatus(of result: SessionResult, program: String) throws -> Int32 {
        switch result.outcome {
        case .exited(.status(let status)): return status
        case .exited(.signal(let number)): return 128 + number
        case .exited(.notStarted(let stage, let code)): return notStarted(program, stage: stage, code: code)
        case .detached: return result.signal.map { 128 + $0 } ?? 0
        case .taken: throw IsolationError.takenOver()
        case .refused(let code, let message): throw IsolationError.refusal(code, message)
        case .gaveUp:
            if let signal = result.signal { return 128 + signal }
            throw IsolationError.lost(nil)
        }
    }

    private static func notStarted(_ program: String, stage: UInt8, code: Int32) -> Int32 {
        let reason = String(cString: strerror(code))
        guard stage == UInt8(InitStatus.Stage.exec.rawValue) else {
            let what =
                stage == UInt8(InitStatus.Stage.workingDirectory.rawValue) ? "its working directory" : "its set-up"
            say(
                "error: \(program) could not be started: \(what): \(reason)\nhelp: check the directory and the limits\n"
            )
            return 126
        }
        say("error: \(program): \(reason)\nhelp: name a program that the SMI's image has, or its full path\n")
        return code == ENOENT ? 127 : 126
    }

    private static func say(_ message: String) {
        let bytes = Array(message.utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }
}
