/// What went wrong on one host with one sandbox: a code, one cause and one remedy.
package struct IsolationError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is; new codes may be added.
    package struct Code: Sendable, Equatable, RawRepresentable {
        package let rawValue: String

        package init(rawValue: String) {
            self.rawValue = rawValue
        }

        package static let imageMissing = Code(rawValue: "image-missing")
        package static let imageInvalid = Code(rawValue: "image-invalid")
        package static let programNotFound = Code(rawValue: "program-not-found")
        package static let addressTaken = Code(rawValue: "address-taken")
        package static let diskFull = Code(rawValue: "disk-full")
        package static let criuMissing = Code(rawValue: "criu-missing")
        package static let criuTooOld = Code(rawValue: "criu-too-old")
        package static let notDumpable = Code(rawValue: "not-dumpable")
        package static let checkpointFailed = Code(rawValue: "checkpoint-failed")
        package static let restoreFailed = Code(rawValue: "restore-failed")
        package static let sandboxExists = Code(rawValue: "sandbox-exists")
        package static let sandboxUnknown = Code(rawValue: "sandbox-unknown")
        package static let sandboxDead = Code(rawValue: "sandbox-dead")
        package static let hostUnsuitable = Code(rawValue: "host-unsuitable")
        package static let systemCall = Code(rawValue: "system-call")
        package static let timedOut = Code(rawValue: "timed-out")
    }

    package let code: Code
    /// One sentence: what happened, naming the object.
    package let cause: String
    /// One sentence: what the operator can do.
    package let remedy: String
    /// The tail of the log of the tool that failed (CRIU's, mkfs's), where there is one.
    package let log: String?

    /// An error with its cause and remedy.
    package init(_ code: Code, cause: String, remedy: String, log: String? = nil) {
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.log = log
    }

    /// `cause (remedy)`.
    package var description: String { "\(cause) (\(remedy))" }
}
