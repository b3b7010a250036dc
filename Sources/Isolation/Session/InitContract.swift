/// What smi-init is started with: descriptor 3 of the start contract (Sources/smi-init/README.md).
package struct InitConfiguration: Sendable, Equatable {
    /// The port of the session protocol on the sandbox's own addresses.
    package static let sessionPort: UInt16 = 1021
    /// Where the main program's output goes inside the sandbox.
    package static let logPath = "/var/log/smi.log"

    /// Known to the owner's agent only; 32 bytes.
    package var secret: [UInt8]
    /// The main program; empty for a sandbox that serves sessions only.
    package var program: [String]
    /// `NAME=value` entries for the program and the sessions.
    package var environment: [String]
    /// Working directory of the program and the sessions.
    package var workingDirectory: String
    /// TCP port; 0 lets the kernel choose.
    package var port: UInt16
    /// Path of the log inside the sandbox; empty for none.
    package var log: String
    /// Size at which the log is rotated, bytes; 0 for 1 MiB.
    package var logLimit: UInt32

    /// A configuration; the defaults are those of a sandbox.
    package init(
        secret: [UInt8],
        program: [String],
        environment: [String] = [],
        workingDirectory: String = "/",
        port: UInt16 = InitConfiguration.sessionPort,
        log: String = InitConfiguration.logPath,
        logLimit: UInt32 = 0
    ) {
        self.secret = secret
        self.program = program
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.port = port
        self.log = log
        self.logLimit = logLimit
    }

    /// The bytes to put on descriptor 3.
    package func encoded() -> [UInt8] {
        var strings = ByteWriter()
        strings.list(program)
        strings.list(environment)
        strings.string(workingDirectory)
        strings.string(log)
        var writer = ByteWriter()
        writer.raw(Array("SMIC".utf8))
        writer.integer(UInt16(1))
        writer.integer(port)
        writer.integer(logLimit)
        writer.integer(UInt32(strings.bytes.count))
        writer.raw(secret)
        writer.raw(strings.bytes)
        return writer.bytes
    }
}

/// What smi-init reports once, on descriptor 4 of the start contract.
package struct InitStatus: Sendable, Equatable {
    /// Bytes of the record.
    package static let size = 24

    /// How far the start came.
    package enum Stage: UInt32, Sendable {
        case running = 0
        case configuration = 1
        case setUp = 2
        case listen = 3
        case fork = 4
        case workingDirectory = 5
        case exec = 6
    }

    /// The stage that failed; `.running` when the program runs and the port listens.
    package let stage: Stage
    /// `errno` of the failure, or 0.
    package let code: Int32
    /// The program's pid inside the sandbox; 0 for none.
    package let pid: Int32
    /// The port that smi-init listens on.
    package let port: UInt16

    /// Reads a record; nil where it is not one, as when smi-init died before it wrote any.
    package init?(decoding bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard bytes.count == Self.size, reader.raw(4) == Array("SMIS".utf8),
            reader.integer(UInt32.self) == 1,
            let stage = reader.integer(UInt32.self).flatMap(Stage.init(rawValue:)),
            let code = reader.integer(Int32.self), let pid = reader.integer(Int32.self),
            let port = reader.integer(UInt32.self)
        else { return nil }
        self.stage = stage
        self.code = code
        self.pid = pid
        self.port = UInt16(truncatingIfNeeded: port)
    }
}
