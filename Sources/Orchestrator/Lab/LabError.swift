import LinuxSystem

/// What went wrong with the lab: a code, one cause, one remedy, and the tail of the log of what failed.
package struct LabError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is; new codes may be added, old ones keep their meaning.
    package struct Code: Sendable, Hashable, RawRepresentable {
        package let rawValue: String

        package init(rawValue: String) {
            self.rawValue = rawValue
        }

        package static let notRoot = Code(rawValue: "not-root")
        package static let badArgument = Code(rawValue: "bad-argument")
        package static let toolMissing = Code(rawValue: "tool-missing")
        package static let hostUnsuitable = Code(rawValue: "host-unsuitable")
        package static let alreadyUp = Code(rawValue: "lab-already-up")
        package static let notUp = Code(rawValue: "lab-not-up")
        package static let busy = Code(rawValue: "lab-busy")
        package static let hostUnknown = Code(rawValue: "host-unknown")
        package static let hostDown = Code(rawValue: "host-down")
        package static let daemonFailed = Code(rawValue: "daemon-failed")
        package static let timedOut = Code(rawValue: "timed-out")
        package static let notRemoved = Code(rawValue: "not-removed")
        package static let systemCall = Code(rawValue: "system-call")
    }

    package let code: Code
    /// One sentence: what happened, naming the object.
    package let cause: String
    /// One sentence: what the operator can do.
    package let remedy: String
    /// The tail of a log, where there is one.
    package let log: String?

    /// An error with its cause and remedy.
    package init(_ code: Code, cause: String, remedy: String, log: String? = nil) {
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.log = log
    }

    /// A system call that failed while doing something.
    package init(_ error: SyscallError, while doing: String) {
        self.init(
            .systemCall,
            cause: "\(doing): \(error)",
            remedy: "run `smirun lab down`, then try again; `smirun doctor` shows what this machine lacks"
        )
    }

    /// There is no lab.
    static var notUp: LabError {
        LabError(.notUp, cause: "no lab is up", remedy: "run `smirun lab up`")
    }

    /// `cause (remedy)`.
    package var description: String { "\(cause) (\(remedy))" }
}

/// Adds what was being done to a failed system call.
func during<Value>(
    _ doing: @autoclosure () -> String,
    _ body: () throws(SyscallError) -> Value
) throws(LabError) -> Value {
    do {
        return try body()
    } catch {
        throw LabError(error, while: doing())
    }
}
