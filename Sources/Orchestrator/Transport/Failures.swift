import GRPCCore
import LinuxSystem

// Errors on the wire: a handler's failure travels as a message, never as a gRPC status, so that cause and remedy arrive.

extension OrchestratorError {
    /// For the wire.
    package var message: Smirun_V1_Failure {
        .with {
            $0.code = code.rawValue
            $0.cause = cause
            $0.remedy = remedy
            $0.log = log ?? ""
        }
    }

    /// From the wire.
    package init(_ failure: Smirun_V1_Failure) {
        self.init(
            Code(rawValue: failure.code),
            cause: failure.cause,
            remedy: failure.remedy,
            log: failure.log.isEmpty ? nil : failure.log
        )
    }

    /// What a call to `peer` that gRPC itself gave up means.
    package init(_ error: RPCError, calling peer: String) {
        switch error.code {
        case .deadlineExceeded:
            self.init(
                .hostDown,
                cause: "\(peer) did not answer in time",
                remedy: "check the link to it and its daemon's log"
            )
        case .unimplemented:
            self.init(
                .version,
                cause: "\(peer) does not know the request: \(error.message)",
                remedy: "run the same version of smirun on all hosts"
            )
        case .cancelled:
            self.init(.hostDown, cause: "the call to \(peer) was cancelled", remedy: "run the command again")
        case .unavailable:
            self.init(
                .hostDown,
                cause: "\(peer) cannot be reached: \(Self.reason(error))",
                remedy: "check that its daemon runs and the link to it"
            )
        default:
            self.init(
                .internalError,
                cause: "\(peer) failed (\(error.code)): \(Self.reason(error))",
                remedy: "look at its daemon's log"
            )
        }
    }

    /// Any error of a call to `peer`.
    package init(_ error: any Error, calling peer: String) {
        switch error {
        case let error as OrchestratorError: self = error
        case let error as StoreError: self.init(error)
        case let error as RPCError: self.init(error, calling: peer)
        case let error as RuntimeError:
            self.init(
                .hostDown,
                cause: "the connection to \(peer) is closed: \(error.message)",
                remedy: "run the command again"
            )
        default: self.init(wrapping: error)
        }
    }

    /// The innermost reason: gRPC wraps the error of the connection.
    private static func reason(_ error: RPCError) -> String {
        guard let cause = error.cause else { return error.message }
        if let cause = cause as? RPCError { return reason(cause) }
        return "\(cause)"
    }
}
