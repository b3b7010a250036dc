import GRDB

/// What SQLite's errors mean to the cluster.
enum SQLiteFailure {
    static func opening(_ path: String, _ error: any Error) -> StoreError {
        guard let error = error as? DatabaseError else {
            return .unavailable(
                cause: "the store \(path) could not be opened: \(error)",
                remedy: "check the directory and the disk"
            )
        }
        switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB:
            return .unavailable(
                cause: "the store \(path) is damaged: \(text(error))",
                remedy: "restore the file from a backup, or move it away and set the cluster up again"
            )
        case .SQLITE_FULL:
            return full(path)
        default:
            return .unavailable(
                cause: "the store \(path) could not be opened: \(text(error))",
                remedy: "check that its directory exists and can be written by root"
            )
        }
    }

    static func reading(_ path: String, _ error: any Error) -> StoreError {
        if let error = error as? StoreError { return error }
        return .unavailable(
            cause: "the store \(path) could not be read: \(text(error))",
            remedy: "check the disk and the daemon's log"
        )
    }

    static func writing(_ path: String, _ error: any Error) -> StoreError {
        guard let error = error as? DatabaseError else {
            return .unavailable(
                cause: "nothing was written to the store \(path): \(error)",
                remedy: "check the daemon's log"
            )
        }
        switch error.resultCode {
        case .SQLITE_FULL:
            return full(path)
        case .SQLITE_IOERR:
            // The log may have reached the disk although its fsync failed.
            return .inDoubt(
                cause: "the disk failed while \(path) was written: \(text(error))",
                remedy: "check the disk (dmesg), then read the key again"
            )
        default:
            return .unavailable(
                cause: "nothing was written to the store \(path): \(text(error))",
                remedy: "check the disk and the daemon's log"
            )
        }
    }

    private static func full(_ path: String) -> StoreError {
        .unavailable(cause: "the disk of the store \(path) is full", remedy: "free space on that file system")
    }

    private static func text(_ error: any Error) -> String {
        guard let error = error as? DatabaseError else { return "\(error)" }
        return error.message ?? "\(error.extendedResultCode)"
    }
}
