import Glibc
import Isolation
import LinuxSystem
import Replication

/// Makes the shared memory of a replica ready for CRIU (Sources/CCriuPreload/shared.c and segments.c).
enum SharedRestore {
    /// Says in the images which objects CRIU finds filled, and puts the pages of the others there.
    ///
    /// Blocks.
    static func prepare(_ arrival: MemoryArrival, images: String) throws {
        let memfds = arrival.filled.filter { $0.original.kind == .file }.map {
            "\($0.original.inode) \($0.inode) \(getpid()) \($0.descriptor.raw)"
        }
        try put(memfds, images + "/filled")
        var segments = arrival.filled.filter { $0.original.kind == .segment }.map {
            "\($0.original.inode) \($0.size)"
        }
        if !segments.isEmpty, let space = arrival.segmentSpace {
            segments.insert("namespace \(getpid()) \(space.raw)", at: 0)
        }
        try put(segments, images + "/segments")
        try arrival.addShared { object, pages, read in
            try CriuPageImages.add(pages, ofShared: object.inode, images: images, read: read)
        }
    }

    /// An earlier daemon's list is of descriptors that are gone.
    private static func put(_ lines: [String], _ path: String) throws {
        if lines.isEmpty {
            unlink(path)
        } else {
            try FileContents.replace(path, with: Array((lines.joined(separator: "\n") + "\n").utf8))
        }
    }
}
