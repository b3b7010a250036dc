import Glibc
import LinuxSystem

/// Makes errors of what CRIU left behind after a failure.
enum CheckpointFailure {
    /// The error of a failed dump: names the process and the reason where they can be found.
    static func ofDump(_ request: DumpRequest) -> IsolationError {
        let log = CriuLog(path: request.images + "/" + CriuService.dumpLog)
        guard ProcessStat(pid: request.pid).map({ !$0.hasEnded }) ?? false else {
            return IsolationError(
                .sandboxDead,
                cause: "the sandbox of \(request.user) ended while it was dumped",
                remedy: "start it again with 'smirun launch'",
                log: log.tail
            )
        }
        if log.connectionPending {
            return IsolationError(
                .connectionPending,
                cause: "\(request.user) cannot be moved: a connection waits to be accepted",
                remedy: "try again; a program that never accepts its connections cannot be moved",
                log: log.tail
            )
        }
        let findings = DumpPreflight.findings(sandbox: request.pid)
        let finding = findings.first { $0.hostPid == log.culprit } ?? findings.first
        if let finding {
            return notDumpable(request, pid: finding.pid, name: finding.name, reason: finding.reason, log: log)
        }
        guard let culprit = log.culprit, let process = SandboxedProcess(hostPid: culprit) else {
            if isFull(request.images) { return diskFull(request, log: log) }
            return IsolationError(
                .checkpointFailed,
                cause: "\(request.user) could not be dumped: \(log.reason)",
                remedy: "read CRIU's words in the log; 'smirun doctor \(request.user)' names what cannot be moved",
                log: log.tail
            )
        }
        return notDumpable(request, pid: process.pid, name: process.name, reason: log.reason, log: log)
    }

    /// The error of a failed restore.
    static func ofRestore(_ request: RestoreRequest) -> IsolationError {
        let log = CriuLog(path: request.images + "/" + CriuService.restoreLog)
        return IsolationError(
            .restoreFailed,
            cause: "\(request.user) could not be restored: \(log.reason)",
            remedy: "read CRIU's words in the log; the sandbox goes on where it was",
            log: log.tail
        )
    }

    private static func notDumpable(
        _ request: DumpRequest,
        pid: Int32,
        name: String,
        reason: String,
        log: CriuLog
    ) -> IsolationError {
        IsolationError(
            .notDumpable,
            cause: "\(request.user) cannot be moved: process \(pid) (\(name)) \(reason)",
            remedy: "end that process or let it give this up; 'smirun doctor \(request.user)' lists all obstacles",
            log: log.tail
        )
    }

    private static func isFull(_ directory: String) -> Bool {
        var status = statvfs()
        return statvfs(directory, &status) == 0 && status.f_bavail < 16
    }

    private static func diskFull(_ request: DumpRequest, log: CriuLog) -> IsolationError {
        IsolationError(
            .diskFull,
            cause: "no room for the images of \(request.user) in \(request.images)",
            remedy: "free space there, or make that file system larger",
            log: log.tail
        )
    }
}
