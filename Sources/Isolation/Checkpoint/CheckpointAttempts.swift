import LinuxSystem

/// Dumps again where the only obstacle passes by itself: a connection that the program has not accepted yet.
package enum CheckpointAttempts {
    /// How often a dump is tried, and how long each wait for the program to accept is at most.
    static let tries = 5
    static let patience = Duration.milliseconds(200)

    /// Runs a dump; after `connectionPending`, lets the program accept and starts another swrk.
    ///
    /// `service` is the swrk that was started in advance, `restart` starts another one. What `onSeized` did (the blocked
    /// network) stays in force between the tries, so that no further connection comes. Throws what `CriuService.dump` does,
    /// `notDumpable` for a connection that is never accepted.
    package static func dump(
        _ request: DumpRequest,
        service: CriuService,
        restart: () throws -> CriuService,
        onSeized: () throws -> Void,
        onDumped: () throws -> Void
    ) throws -> DumpReport {
        var service = service
        var attempt = 1
        while true {
            do {
                return try service.dump(request, onSeized: onSeized, onDumped: onDumped)
            } catch let error as IsolationError where error.code == .connectionPending {
                guard attempt < tries else {
                    throw IsolationError(.notDumpable, cause: error.cause, remedy: error.remedy, log: error.log)
                }
                let deadline = ContinuousClock.now + patience
                DumpPreflight.waitUntilAccepted(in: request.pid, before: deadline)
                try Directories.empty(request.images)
                service = try restart()
                attempt += 1
            }
        }
    }
}

extension IsolationError.Code {
    /// A connection waits to be accepted, which CRIU cannot dump; passes when the program accepts it.
    package static let connectionPending = IsolationError.Code(rawValue: "connection-pending")
}

extension Directories {
    /// Removes everything in a directory.
    static func empty(_ path: String) throws(SyscallError) {
        for name in entries(of: path) { try removeTree(path + "/" + name) }
    }
}
