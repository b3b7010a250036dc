import CLinux
import Glibc
import LinuxSystem

/// Memory that processes share without a file of the rootfs, by what the kernel knows it as: a file of its own tmpfs.
package struct SharedObject: Hashable, Sendable {
    /// Two numberings that may meet.
    package enum Kind: UInt8, Sendable {
        /// memfd and shared anonymous memory.
        case file = 1
        /// A System V segment: its inode is its identifier, which it keeps in every move.
        case segment = 2
    }

    package let kind: Kind
    package let inode: UInt64

    /// Names an object.
    package init(kind: Kind, inode: UInt64) {
        self.kind = kind
        self.inode = inode
    }

    /// The kernel's device of all such objects.
    static let device = smi_shared_device()
}

/// An object as it goes to the replicas: what a host needs to make it again.
package struct SharedShape: Sendable, Equatable {
    package let object: SharedObject
    /// Bytes.
    package let size: UInt64
    /// What memfd_create(2) is given.
    package let name: String

    /// A shape.
    package init(object: SharedObject, size: UInt64, name: String) {
        self.object = object
        self.size = size
        self.name = name
    }
}

/// Shared objects have backing files of their own, numbered beyond every process number.
package enum SharedNumber {
    /// Numbers from here on are of objects: Linux gives processes numbers below 2^22.
    package static let first: Int32 = 1 << 24

    /// Whether a backing file is of an object, not of a process.
    package static func isShared(_ number: Int32) -> Bool { number >= first }
}

/// One mapping of an object by a process.
struct SharedUse: Hashable {
    let process: ProcessKey
    let range: Range<UInt64>
    let offset: UInt64
    let isShared: Bool
}

/// An object that was found in a round, and how to get at it.
struct SharedSighting {
    let object: SharedObject
    /// Below /proc, of some process that has it.
    let path: String
    var uses: [SharedUse] = []
}

extension Mapping {
    /// The object mapped, shared or privately; nil for everything else.
    var sharedObject: SharedObject? {
        guard inode != 0 || name.hasPrefix("/SYSV"), device == SharedObject.device else { return nil }
        return SharedObject(kind: name.hasPrefix("/SYSV") ? .segment : .file, inode: inode)
    }
}

enum SharedSightings {
    /// All objects that processes map or have open.
    static func find(_ processes: [ProcessDirty]) -> [SharedObject: SharedSighting] {
        var found: [SharedObject: SharedSighting] = [:]
        for process in processes {
            for mapping in process.mappings {
                guard let object = mapping.sharedObject else { continue }
                let bounds = [mapping.range.lowerBound, mapping.range.upperBound].map { String($0, radix: 16) }
                let path = "/proc/\(process.pid)/map_files/\(bounds[0])-\(bounds[1])"
                let use = SharedUse(
                    process: process.key,
                    range: mapping.range,
                    offset: mapping.offset,
                    isShared: mapping.isShared
                )
                found[object, default: SharedSighting(object: object, path: path)].uses.append(use)
            }
            for (path, object) in open(by: process.pid) where found[object] == nil {
                found[object] = SharedSighting(object: object, path: path)
            }
        }
        return found
    }

    /// memfds among a process's descriptors.
    private static func open(by pid: pid_t) -> [(path: String, object: SharedObject)] {
        let directory = "/proc/\(pid)/fd"
        return Directories.entries(of: directory).compactMap { name in
            let path = "\(directory)/\(name)"
            var state = smi_shared_state()
            // Its device tells of most that they are something else, without reading their name.
            guard smi_shared_look_at(path, &state) == 0, SharedMemory.name(of: path) != nil else { return nil }
            return (path, SharedObject(kind: .file, inode: state.inode))
        }
    }
}
