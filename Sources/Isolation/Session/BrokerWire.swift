import Glibc
import LinuxSystem

/// What goes over `session.sock` (SOCK_SEQPACKET): one request, one answer, and then only its end.
///
/// Request: `SMIB`, version `u8` 1, user string. Answer: `SMIB`, version, 0 and one descriptor; or 1 and the strings
/// code, cause, remedy. The connection stays open as the leash of what was given: either end closing it ends that.
enum BrokerWire {
    static let maxMessage = 16 << 10
    private static let magic = Array("SMIB".utf8)
    private static let version: UInt8 = 1

    static func request(user: String) -> [UInt8] {
        var writer = ByteWriter()
        writer.raw(magic + [version])
        writer.string(user)
        return writer.bytes
    }

    /// The user; nil for what is no request.
    static func user(inRequest bytes: [UInt8]) -> String? {
        var reader = ByteReader(bytes)
        guard reader.raw(4) == magic, reader.integer(UInt8.self) == version, let user = reader.string(),
            reader.remaining == 0
        else { return nil }
        return user
    }

    static let granted: [UInt8] = magic + [version, 0]

    static func refused(_ error: IsolationError) -> [UInt8] {
        var writer = ByteWriter()
        writer.raw(magic + [version, 1])
        // The log stays with the daemon: the answer has a bounded size.
        for text in [error.code.rawValue, error.cause, error.remedy] { writer.string(String(text.prefix(2000))) }
        return writer.bytes
    }

    /// The error of an answer; nil where the answer is a grant.
    static func error(inAnswer bytes: [UInt8]) throws(IsolationError) -> IsolationError? {
        var reader = ByteReader(bytes)
        guard reader.raw(4) == magic, reader.integer(UInt8.self) == version, let kind = reader.integer(UInt8.self)
        else { throw .strangeDaemon() }
        if kind == 0 { return nil }
        guard let code = reader.string(), let cause = reader.string(), let remedy = reader.string() else {
            throw .strangeDaemon()
        }
        return IsolationError(IsolationError.Code(rawValue: code), cause: cause, remedy: remedy)
    }
}

/// The command line's side of `session.sock`.
package enum BrokerClient {
    /// Asks the daemon for a connection to a user's SMI; waits while the SMI is on its way.
    ///
    /// - Throws: `IsolationError`: the daemon's own, or `daemonUnreachable`.
    package static func dial(socketPath: String, user: String) throws(IsolationError) -> SessionLink {
        do {
            let leash = try StreamSocket.connect(unix: socketPath, type: SOCK_SEQPACKET)
            try DescriptorPassing.send(BrokerWire.request(user: user), [], over: leash)
            let (answer, descriptors) = try DescriptorPassing.receive(from: leash, limit: BrokerWire.maxMessage)
            if answer.isEmpty { throw IsolationError.daemonGone(socketPath, "it closed the connection") }
            if let refusal = try BrokerWire.error(inAnswer: answer) { throw refusal }
            guard let stream = descriptors.first else { throw IsolationError.strangeDaemon() }
            return SessionLink(stream: stream, leash: leash)
        } catch let error as IsolationError {
            throw error
        } catch {
            if (error as? SyscallError)?.code == EACCES { throw .socketOfRoot(socketPath) }
            throw .daemonGone(socketPath, "\(error)")
        }
    }

    /// `dial` as a function to be called again after every loss.
    package static func dialler(socketPath: String, user: String) -> SessionDial {
        { try dial(socketPath: socketPath, user: user) }
    }
}

extension IsolationError {
    static func daemonGone(_ path: String, _ reason: String) -> IsolationError {
        IsolationError(
            .daemonUnreachable,
            cause: "the host agent at \(path) does not answer: \(reason)",
            remedy: "start it (smirun daemon, or smirun lab up), or name its socket"
        )
    }

    static func socketOfRoot(_ path: String) -> IsolationError {
        IsolationError(
            .daemonUnreachable,
            cause: "the host agent's socket \(path) is root's",
            remedy: "run the command as root"
        )
    }

    static func strangeDaemon() -> IsolationError {
        IsolationError(
            .daemonUnreachable,
            cause: "the host agent speaks another version of the session socket's protocol",
            remedy: "use the command line and the daemon of one version"
        )
    }
}
