import Glibc
import Isolation
import LinuxSystem
import Replication

/// Makes the shared memory of a replica ready for CRIU (Sources/CCriuPreload/shared.c).
enum SharedRestore {
    /// Says in the images which objects CRIU finds filled, and puts the pages of the others there.
    ///
    /// Blocks.
    static func prepare(_ arrival: MemoryArrival, images: String) throws {
        var list = ""
        for filled in arrival.filled {
            list += "\(filled.original) \(filled.inode) \(getpid()) \(filled.descriptor.raw)\n"
        }
        // An earlier daemon's list is of descriptors that are gone.
        if list.isEmpty {
            unlink(images + "/filled")
        } else {
            try FileContents.replace(images + "/filled", with: Array(list.utf8))
        }
        try arrival.addShared { object, pages, read in
            try CriuPageImages.add(pages, ofShared: object.inode, images: images, read: read)
        }
    }
}
