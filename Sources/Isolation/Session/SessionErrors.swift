import Glibc
import LinuxSystem

extension IsolationError.Code {
    /// smi-init did not answer, or not as it should.
    package static let sessionUnreachable = IsolationError.Code(rawValue: "session-unreachable")
    /// No such session, or none any more.
    package static let sessionUnknown = IsolationError.Code(rawValue: "session-unknown")
    /// Another client has the session now.
    package static let sessionTaken = IsolationError.Code(rawValue: "session-taken")
    /// The connection was lost and could not be had again in time.
    package static let sessionLost = IsolationError.Code(rawValue: "session-lost")
    /// smi-init refused, as when there are too many sessions.
    package static let sessionRefused = IsolationError.Code(rawValue: "session-refused")
    /// The host agent does not answer.
    package static let daemonUnreachable = IsolationError.Code(rawValue: "daemon-unreachable")
}

extension IsolationError {
    static func unreachable(_ what: String, _ error: SyscallError) -> IsolationError {
        IsolationError(
            .sessionUnreachable,
            cause: "the sandbox's init at \(what) cannot be reached: \(error)",
            remedy: "check that the SMI runs on this host (smirun ls) and that nothing filters its address"
        )
    }

    static func brokenGreeting(_ what: String) -> IsolationError {
        IsolationError(
            .sessionUnreachable,
            cause: "the sandbox's init at \(what) refused the host agent",
            remedy: "the SMI's secret or the version of smi-init differs: stop and launch the SMI again"
        )
    }

    static func refusal(_ refusal: SessionRefusal, _ message: String) -> IsolationError {
        switch refusal {
        case .noSession, .abandoned:
            IsolationError(
                .sessionUnknown,
                cause: message,
                remedy: "start a new one, or list those that exist (smirun ps USER)"
            )
        case .taken:
            .takenOver()
        case .noTerminal:
            IsolationError(.sessionRefused, cause: message, remedy: "attach to a session that was started by attach")
        case .tooMany:
            IsolationError(.sessionRefused, cause: message, remedy: "end some of the SMI's sessions")
        default:
            IsolationError(
                .sessionRefused,
                cause: message,
                remedy: "look at the SMI's processes and limits (smirun ps USER)"
            )
        }
    }

    static func noAnswer() -> IsolationError {
        IsolationError(
            .sessionUnreachable,
            cause: "the sandbox's init did not answer",
            remedy: "try again; if it stays so, look at the SMI's state (smirun inspect USER)"
        )
    }

    static func takenOver() -> IsolationError {
        IsolationError(
            .sessionTaken,
            cause: "the session was taken over by another client",
            remedy: "attach to it again to take it back"
        )
    }

    static func lost(_ last: (any Error)?) -> IsolationError {
        IsolationError(
            .sessionLost,
            cause: "the connection to the SMI was lost and did not come back in time"
                + (last.map { ": \($0)" } ?? ""),
            remedy: "look where the SMI is (smirun ls); a terminal session can be attached to again"
        )
    }

    /// Whether asking again may help: false for what the cluster knows for certain.
    var isWorthRetrying: Bool {
        ![.sandboxUnknown, .sandboxDead, .sessionUnknown].contains(code)
    }
}
