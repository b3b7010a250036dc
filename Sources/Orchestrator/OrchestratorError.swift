import Glibc
import Isolation
import Mobility
import Replication

/// What went wrong in the cluster: a code, one cause, one remedy, and the log of the tool that failed.
package struct OrchestratorError: Error, Sendable, Codable, CustomStringConvertible {
    /// What kind of failure it is; new codes may be added, old ones keep their meaning.
    package struct Code: Sendable, Hashable, RawRepresentable, Codable {
        package let rawValue: String

        package init(rawValue: String) {
            self.rawValue = rawValue
        }

        package static let badArgument = Code(rawValue: "bad-argument")
        package static let userExists = Code(rawValue: "user-exists")
        package static let userUnknown = Code(rawValue: "user-unknown")
        package static let hostUnknown = Code(rawValue: "host-unknown")
        package static let hostDown = Code(rawValue: "host-down")
        package static let accessPointUnknown = Code(rawValue: "access-point-unknown")
        package static let notRunning = Code(rawValue: "not-running")
        package static let running = Code(rawValue: "running")
        package static let handoffUnderWay = Code(rawValue: "handoff-under-way")
        package static let handoffFailed = Code(rawValue: "handoff-failed")
        package static let inDoubt = Code(rawValue: "in-doubt")
        package static let storeUnavailable = Code(rawValue: "store-unavailable")
        package static let daemonUnreachable = Code(rawValue: "daemon-unreachable")
        package static let notAMember = Code(rawValue: "not-a-member")
        package static let version = Code(rawValue: "version")
        package static let programNotFound = Code(rawValue: "program-not-found")
        package static let notRoot = Code(rawValue: "not-root")
        package static let internalError = Code(rawValue: "internal")
    }

    package let code: Code
    /// One sentence: what happened, naming the object.
    package let cause: String
    /// One sentence: what the operator can do.
    package let remedy: String
    /// The tail of a tool's log, where there is one.
    package let log: String?

    /// An error with its cause and remedy.
    package init(_ code: Code, cause: String, remedy: String, log: String? = nil) {
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.log = log
    }

    /// Takes over an error of the isolation layer; its codes keep their names.
    package init(_ error: IsolationError) {
        self.init(Code(rawValue: error.code.rawValue), cause: error.cause, remedy: error.remedy, log: error.log)
    }

    /// Wraps any error: ours are kept, others become internal ones with their text as cause.
    package init(wrapping error: any Error) {
        switch error {
        case let error as OrchestratorError: self = error
        case let error as IsolationError: self.init(error)
        case let error as StoreError: self.init(error)
        case let error as ReplicaError: self.init(.handoffFailed, cause: error.cause, remedy: error.remedy)
        case let error as MobilityError:
            self.init(Code(rawValue: "mobility-" + error.code.rawValue), cause: error.cause, remedy: error.remedy)
        case let error as RoamingError:
            self.init(Code(rawValue: "roaming-" + error.code.name), cause: error.cause, remedy: error.remedy)
        case is CancellationError:
            self.init(.internalError, cause: "the request was cancelled", remedy: "run the command again")
        default:
            self.init(
                .internalError,
                cause: "\(error)",
                remedy: "look at the daemon's log; run `smirun doctor`"
            )
        }
    }

    /// `cause (remedy)`.
    package var description: String { "\(cause) (\(remedy))" }
}

extension OrchestratorError {
    /// Refuses whoever is not root; `cause` says what needs it.
    package static func requireRoot(_ cause: String) throws(OrchestratorError) {
        if geteuid() != 0 { throw .notRoot(cause) }
    }

    static func notRoot(_ cause: String) -> OrchestratorError {
        OrchestratorError(.notRoot, cause: cause, remedy: "run the command as root")
    }
}
