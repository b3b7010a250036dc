import Isolation
import Mobility
import Orchestrator

/// An error as the command line prints it: one cause, one remedy, and an exit status.
struct Failure {
    let cause: String
    let remedy: String
    let log: String?
    let status: Int32

    /// Recognises the errors of our modules; nil for those of the argument parser.
    init?(_ error: any Error) {
        switch error {
        case let error as OrchestratorError:
            self.init(cause: error.cause, remedy: error.remedy, log: error.log, status: Self.status(of: error.code))
        case let error as IsolationError:
            let wrapped = OrchestratorError(error)
            self.init(
                cause: error.cause,
                remedy: error.remedy,
                log: error.log,
                status: Self.status(of: wrapped.code)
            )
        case is MobilityError, is RoamingError:
            let wrapped = OrchestratorError(wrapping: error)
            self.init(cause: wrapped.cause, remedy: wrapped.remedy, log: nil, status: Self.status(of: wrapped.code))
        case let error as LabError:
            let status: Int32 = error.code == .badArgument ? 2 : 1
            self.init(cause: error.cause, remedy: error.remedy, log: error.log, status: status)
        default:
            return nil
        }
    }

    /// Any error at all, in the words of the module that it comes closest to.
    init(wrapping error: any Error) {
        let wrapped = OrchestratorError(wrapping: error)
        self.init(
            cause: wrapped.cause,
            remedy: wrapped.remedy,
            log: wrapped.log,
            status: Self.status(of: wrapped.code)
        )
    }

    private init(cause: String, remedy: String, log: String?, status: Int32) {
        self.cause = cause
        self.remedy = remedy
        self.log = log
        self.status = status
    }

    /// The one table from error codes to exit statuses.
    private static func status(of code: OrchestratorError.Code) -> Int32 {
        switch code {
        case .badArgument: 2
        case .programNotFound: 127
        default: 1
        }
    }

    /// Prints `error:`, the tool's log where there is one, and `help:` to the standard error.
    func print() {
        var text = "error: \(cause)\n"
        if let log, !log.isEmpty {
            text += log.split(separator: "\n").map { "  | \($0)\n" }.joined()
        }
        text += "help: \(remedy)\n"
        writeError(text)
    }
}
