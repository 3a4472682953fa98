from .dissimilarities import check_dissimilarity as check_dissimilarity
from .file_readers import check_reader as check_reader
from .rdm_teachers import check_teacher as check_teacher
