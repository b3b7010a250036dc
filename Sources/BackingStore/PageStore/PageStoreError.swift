import CPageStore
import Glibc

/// What went wrong with a backing file, and where in it.
package struct PageStoreError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is.
    package enum Code: String, Sendable {
        /// A system call failed; ``systemError`` says why.
        case io
        /// Not a page store, or one of another version.
        case foreign
        /// Shorter than what was committed.
        case truncated
        /// A record does not match its checksum.
        case corrupt
        /// The machine is out of memory.
        case outOfMemory
        /// An epoch that goes backwards, a page number out of range, a write to a read-only store.
        case invalidUse
        /// An earlier write failed and has not been rolled back.
        case broken
        /// The log's address space (1 TiB written since the file was made) is used up.
        case full
        /// A delta was made against another version of a page than the one held here.
        case mismatch
    }

    package let code: Code
    /// The file, where it is known.
    package let path: String?
    /// The page number (address / 4096) concerned, where it is one page.
    package let page: UInt64?
    /// The offset in the file.
    package let offset: UInt64
    /// errno(3) of an ``Code/io`` failure, else 0.
    package let systemError: Int32

    init(_ raw: smi_ps_error, path: String?) {
        code = Self.code(Int(raw.code))
        self.path = path
        page = raw.page == UInt64.max ? nil : raw.page
        offset = raw.offset
        systemError = raw.sys_errno
    }

    private static func code(_ raw: Int) -> Code {
        switch raw {
        case Int(SMI_PS_IO.rawValue): .io
        case Int(SMI_PS_FOREIGN.rawValue): .foreign
        case Int(SMI_PS_TRUNCATED.rawValue): .truncated
        case Int(SMI_PS_CORRUPT.rawValue): .corrupt
        case Int(SMI_PS_NOMEM.rawValue): .outOfMemory
        case Int(SMI_PS_BROKEN.rawValue): .broken
        case Int(SMI_PS_FULL.rawValue): .full
        case Int(SMI_PS_MISMATCH.rawValue): .mismatch
        default: .invalidUse
        }
    }

    /// One sentence: what happened, with the page and the offset.
    package var cause: String {
        let file = path ?? "page store"
        let place = page.map { "page 0x\(String($0, radix: 16)) at offset \(offset)" } ?? "offset \(offset)"
        return switch code {
        case .io: "\(file): \(String(cString: strerror(systemError))) (\(place))"
        case .foreign: "\(file) is not a page store of this version"
        case .truncated: "\(file) is shorter than its last epoch (\(place))"
        case .corrupt: "\(file) is damaged: \(place) does not match its checksum"
        case .outOfMemory: "no memory for the index of \(file)"
        case .invalidUse: "\(file) was used wrongly (\(place))"
        case .broken: "\(file) has an unfinished write"
        case .full: "\(file) has used up its log"
        case .mismatch: "\(file) holds another version of \(place) than the delta was made against"
        }
    }

    /// One sentence: what to do about it.
    package var remedy: String {
        switch code {
        case .io: "check the disk's space and health, then try again"
        case .foreign, .truncated: "remove the file: it is replicated again from the host that owns the SMI"
        case .corrupt: "remove the file, or drop the page and fetch it again from the host that owns the SMI"
        case .outOfMemory: "free memory on the host"
        case .invalidUse: "this is a defect of smirun: report it with this message"
        case .broken: "roll back to the last epoch"
        case .full: "copy it into a new file"
        case .mismatch: "send the page whole"
        }
    }

    /// `cause (remedy)`.
    package var description: String { "\(cause) (\(remedy))" }
}
