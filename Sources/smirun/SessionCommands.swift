import ArgumentParser
import Foundation
import Isolation
import LinuxSystem

/// `smirun attach USER`.
struct AttachCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach",
        abstract: "Open a shell in a machine; it survives hand-offs. Ctrl-p ctrl-q leaves it running."
    )

    @Argument var user: String
    @Option(help: "Attach to the session of this number again.")
    var session: UInt32?
    @OptionGroup var daemon: DaemonOptions
    @Argument(parsing: .postTerminator, help: "A program to run in place of a login shell, after --.")
    var command: [String] = []

    func run() async throws {
        let dial = BrokerClient.dialler(socketPath: daemon.sessionSocket, user: user)
        let (session, command) = (session, command)
        let status = try await offload { try SessionCommands.attach(session: session, argv: command, dial: dial) }
        throw ExitCode(status)
    }
}

/// `smirun exec USER -- CMD…`.
struct ExecCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec",
        abstract: "Run a program in a machine; its streams and exit status pass through, over hand-offs too."
    )

    @Argument var user: String
    @Option(name: .customLong("env"), help: "NAME=value for the program; may be repeated.")
    var environment: [String] = []
    @Option(name: .customLong("workdir"), help: "The directory to start in.")
    var directory = ""
    @OptionGroup var daemon: DaemonOptions
    @Argument(parsing: .postTerminator, help: "The program and its arguments, after --.")
    var command: [String] = []

    func validate() throws {
        if command.isEmpty { throw ValidationError("give a program after --") }
    }

    func run() async throws {
        let dial = BrokerClient.dialler(socketPath: daemon.sessionSocket, user: user)
        let (environment, directory, command) = (environment, directory, command)
        let status = try await offload {
            try SessionCommands.exec(
                argv: command,
                environment: environment,
                workingDirectory: directory,
                dial: dial
            )
        }
        throw ExitCode(status)
    }
}

/// `smirun logs USER`.
struct LogsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs",
        abstract: "Show what a machine's main program wrote."
    )

    @Argument var user: String
    @Flag(name: .shortAndLong, help: "Go on with what it writes from now on.")
    var follow = false
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let dial = BrokerClient.dialler(socketPath: daemon.sessionSocket, user: user)
        let follow = follow
        try await offload { try SessionCommands.logs(follow: follow, dial: dial) }
    }
}
